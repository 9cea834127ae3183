-- Read messages. KEYS: run, messages. ARGV: index of the first one wanted, how many bytes, schema version.
-- Returns 'missing', 'newer', 'encrypted' or the messages from that one on, up to so many bytes, though always one.
local sv = redis.call('HGET', KEYS[1], 'sv')
if not sv and redis.call('EXISTS', KEYS[1]) == 0 then
  return 'missing'
end
local why = unreadable(sv, ARGV[3])
if why then
  return why
end

-- Read in helpings: what is read and not returned is never much.
local first, size = tonumber(ARGV[1]), tonumber(ARGV[2])
local found, n, had, helping = {}, 0, 0, 4
while true do
  local some = redis.call('LRANGE', KEYS[2], int(first + n), int(first + n + helping - 1))
  for i = 1, #some do
    had = had + #some[i]
    if had > size and n > 0 then
      return found
    end
    n = n + 1
    found[n] = some[i]
  end
  if #some < helping then
    return found
  end
  helping = math.min(n, 32)
end
