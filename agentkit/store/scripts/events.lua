-- Read a log. KEYS: run, messages, events. ARGV: the first seq wanted, how many, how many bytes ('' for any number), schema
-- version. Returns 'missing', 'newer', 'encrypted' or {status, last seq, first entry kept, entries}.
local known = redis.call('HMGET', KEYS[1], 'status', 'seq', 'sv')
if not known[1] then
  return 'missing'
end
local why = unreadable(known[3], ARGV[4])
if why then
  return why
end

-- Where bytes are counted, read in helpings: what is read and not returned is never much.
local wanted, size = tonumber(ARGV[2]), tonumber(ARGV[3])
local entries, n, had = {}, 0, 0
local from, helping = ARGV[1] .. '-0', size and math.min(64, wanted) or wanted
while helping > 0 do
  local some = redis.call('XRANGE', KEYS[3], from, '+', 'COUNT', helping)
  for i = 1, #some do
    some[i][2][2] = expand(KEYS[2], some[i][2][2])
    had = had + #some[i][2][2]
    if size and had > size and n > 0 then
      wanted = n
      break
    end
    n = n + 1
    entries[n] = some[i]
  end
  if #some < helping then
    break
  end
  from = int(tonumber(string.match(some[helping][1], '%d+')) + 1) .. '-0'
  helping = math.min(n, wanted - n)
end
return {known[1], known[2], redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', 1), entries}
