-- Take overdue runs for a while. KEYS: due. ARGV: how many, hold ms.
-- Returns {end of the hold, run ids, their scores, for each '1' if it was scheduled since it was last checked, or ''}. The score is then
-- the end of the hold and .25, or .5.
local now = now_ms()
local till = int(now + tonumber(ARGV[2]))
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(now), 'WITHSCORES', 'LIMIT', 0, ARGV[1])
local ids, scores, scheduled = {}, {}, {}
for i = 1, #found, 2 do
  local part = tonumber(found[i + 1]) % 1
  local is_scheduled = part == 0.75 or part == 0.25
  ids[#ids + 1] = found[i]
  scores[#scores + 1] = found[i + 1]
  scheduled[#scheduled + 1] = is_scheduled and '1' or ''
  redis.call('ZADD', KEYS[1], till .. (is_scheduled and '.25' or '.5'), found[i])
end
return {till, ids, scores, scheduled}
