-- Take overdue runs for a while. KEYS: due. ARGV: how many, hold ms. Returns {mark, run ids...}.
local now = now_ms()
local mark = int(now + tonumber(ARGV[2])) .. '.5'
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(now), 'LIMIT', 0, ARGV[1])
for _, id in ipairs(ids) do
  redis.call('ZADD', KEYS[1], mark, id)
end
return {mark, ids}
