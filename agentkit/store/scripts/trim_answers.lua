-- Remove old answers from the beginning of the chain, which then has the hash of the last of them for its anchor.
-- KEYS: chain, entries, decision ids. ARGV: time (ms) before which they were recorded, how many at the most.
-- Returns how many.
local count, last, lists = 0, nil, {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', ARGV[2])) do
  local fields = {}
  for i = 1, #entry[2], 2 do
    fields[entry[2][i]] = entry[2][i + 1]
  end
  if tonumber(fields.t) >= tonumber(ARGV[1]) then
    break
  end
  count = count + 1
  last = {string.match(entry[1], '%d+'), fields.h}
  redis.call('HDEL', KEYS[3], fields.i)
  for name in string.gmatch(fields.l, '[^\n]+') do
    lists[name] = true
  end
end
if count == 0 then
  return 0
end
local first = int(last[1] + 1)
local function trim(key)
  redis.call('XTRIM', key, 'MINID', first .. '-0')
  if redis.call('XLEN', key) == 0 then
    redis.call('DEL', key)
  end
end
trim(KEYS[2])
for name in pairs(lists) do
  trim(KEYS[1] .. name)
end
redis.call('HSET', KEYS[1], 'first', first, 'anchor', last[2])
return count
