-- Take the step whose turn it is out of the ready sets of several queues. KEYS: three for each queue, the one that a message
-- came from first. ARGV: the step of the message, or ''.
-- Returns 'absent' where that is not in the ready set of the first queue, 'none' where all are empty, or {number of the
-- queue, step}: the most urgent one, of the first queue where others are as urgent.
if ARGV[1] ~= '' and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 'absent'
end
local found, class, place, queue
for i = 0, #KEYS / 3 - 1 do
  local first = redis.call('ZRANGEBYSCORE', KEYS[3 * i + 1], '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if #first > 0 then
    local its = math.floor(tonumber(first[2]) / 1e12)
    if not found or its < class then
      found, class, place, queue = first[1], its, tonumber(first[2]), i
    end
  end
end
if not found then
  return 'none'
end
redis.call('ZREM', KEYS[3 * queue + 1], found)
redis.call('ZREMRANGEBYSCORE', KEYS[3 * queue + 2], int(class * 1e12), int(place))
redis.call('HSET', KEYS[3 * queue + 3], class, int(place - class * 1e12))
return {queue + 1, found}
