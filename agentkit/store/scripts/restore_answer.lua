-- Append an answer to the chain as a backup has it. KEYS: chain, entries, decision ids. ARGV: its number, decision id, when
-- it was recorded (ms), its hash, its line, names of lists...
-- Returns 'ok', 'known' where it is there, or 'other' where another one is, or where entries before it are missing.
local last = tonumber(redis.call('HGET', KEYS[1], 'last') or '0')
local number = tonumber(ARGV[1])
if number <= last then
  local entry = redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[1])[1]
  if not entry then
    return number < tonumber(redis.call('HGET', KEYS[1], 'first') or '1') and 'known' or 'other'
  end
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'h' then
      return entry[2][i + 1] == ARGV[4] and 'known' or 'other'
    end
  end
end
if number ~= last + 1 then
  return 'other'
end
local lists = {}
for i = 6, #ARGV do
  redis.call('XADD', KEYS[1] .. ARGV[i], ARGV[1] .. '-0', 'n', '')
  lists[i - 5] = ARGV[i]
end
redis.call('XADD', KEYS[2], ARGV[1] .. '-0', 'i', ARGV[2], 't', ARGV[3], 'h', ARGV[4], 'l',
  table.concat(lists, '\n'), 'd', ARGV[5])
redis.call('HSET', KEYS[3], ARGV[2], ARGV[1])
redis.call('HSET', KEYS[1], 'last', ARGV[1], 'head', ARGV[4])
return 'ok'
