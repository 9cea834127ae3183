-- Say when an entry of an outbox that was taken is due, unless it was taken again since. KEYS: outbox.
-- ARGV: entry id, how often it was taken, time (ms). Returns 'no' or 'ok'.
local raw = redis.call('HGET', KEYS[1], ARGV[1])
local _, tries, body = string.match(raw or '', '^(%d+) (%d+) (.*)$')
if tries ~= ARGV[2] then
  return 'no'
end
redis.call('HSET', KEYS[1], ARGV[1], table.concat({ARGV[3], tries, body}, ' '))
return 'ok'
