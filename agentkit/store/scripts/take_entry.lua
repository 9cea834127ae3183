-- Take an entry of an outbox that is due, for a while. KEYS: outbox. ARGV: entry id, hold ms.
-- Returns 'no' where it is not there, or due later, or the entry as it is then.
local raw = redis.call('HGET', KEYS[1], ARGV[1])
if not raw then
  return 'no'
end
local at, tries, body = string.match(raw, '^(%d+) (%d+) (.*)$')
local now = now_ms()
if tonumber(at) > now then
  return 'no'
end
raw = table.concat({int(now + tonumber(ARGV[2])), int(tries + 1), body}, ' ')
redis.call('HSET', KEYS[1], ARGV[1], raw)
return raw
