-- Read a log. KEYS: run, events. ARGV: the first seq wanted, how many, how many bytes ('' for any number), schema
-- version. Returns 'missing', 'newer' or {status, last seq, first entry kept, entries}.
local known = redis.call('HMGET', KEYS[1], 'status', 'seq', 'sv')
if not known[1] then
  return 'missing'
end
if unreadable(known[3], ARGV[4]) then
  return 'newer'
end

-- Read in helpings, each as large as all before it: what is read and not returned is never much.
local entries, wanted, size = {}, tonumber(ARGV[2]), tonumber(ARGV[3])
local from, helping, had = ARGV[1] .. '-0', size and 1 or wanted, 0
while #entries < wanted and not (size and had >= size) do
  local count = math.min(helping, wanted - #entries)
  local some = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', count)
  for _, entry in ipairs(some) do
    had = had + #entry[2][2]
    if size and had > size and #entries > 0 then
      break
    end
    entries[#entries + 1] = entry
  end
  if #some < count then
    break
  end
  from = int(tonumber(string.match(some[count][1], '%d+')) + 1) .. '-0'
  helping = #entries
end
return {known[1], known[2], redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1), entries}
