-- End a call, and wake those whose turn it is. KEYS: six for each rate. ARGV: call id, tokens that it used ('': as
-- estimated), wake ms, lease ms, then for each rate as in take_call.lua. Returns the woken steps.
local id, used = ARGV[1], tonumber(ARGV[2])
local now, woken = now_ms(), {}
for _, rate in ipairs(rates_of(5)) do
  redis.call('ZREM', rate.slots, id)
  local counted = redis.call('HGET', rate.state, 't:' .. id)
  if counted and used then
    redis.call('HSET', rate.state, 't:' .. id, int(used))
    redis.call('HINCRBY', rate.state, 'sum', int(used - tonumber(counted)))
  end
  prune(rate, now)
  wake(rate, now, tonumber(ARGV[3]), woken)
  touch(rate, tonumber(ARGV[4]))
end
return names_of(woken)
