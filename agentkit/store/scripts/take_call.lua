-- Give a call its share of all of its rates, or put it into the queues of those that it waits for. The algorithm is told
-- in store/shares.py, and once more in store/memory_shares.py: both must do the same.
-- KEYS: six for each rate (RateKeys in lua.py). ARGV: call id, waiting step, owner, estimated tokens, lease ms, wake ms,
-- then for each rate: requests, tokens, per (ms), concurrent ('' for no bound).
-- Returns {'ok', 0, 0, '', woken steps...} or {'wait', delay ms, index of the rate (from 1), bound, woken steps...}.
local id, step, owner, estimate = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local lease, wake_ms = tonumber(ARGV[5]), tonumber(ARGV[6])
local now = now_ms()
local rates, woken = rates_of(7), {}

for _, rate in ipairs(rates) do
  prune(rate, now)
  if redis.call('ZSCORE', rate.slots, id) or redis.call('ZSCORE', rate.window, id) then
    return {'ok', 0, 0, ''}  -- sent again because its reply was lost
  end
end
local waits_for = {}
for i, rate in ipairs(rates) do
  join(rate, step, owner, estimate)
  wake(rate, now, wake_ms, woken)
  if not redis.call('ZSCORE', rate.woken, step) then
    waits_for[#waits_for + 1] = i
  end
end
woken[step] = nil

if #waits_for == 0 then
  for _, rate in ipairs(rates) do
    local place = redis.call('ZSCORE', rate.queue, step)
    leave(rate, step)
    redis.call('HSET', rate.state, 'v', place)
    redis.call('ZREMRANGEBYSCORE', rate.fair, '-inf', place)
    if rate.concurrent then
      redis.call('ZADD', rate.slots, now + lease, id)
    end
    if rate.requests or rate.tokens then
      redis.call('ZADD', rate.window, now, id)
    end
    if rate.tokens then
      redis.call('HSET', rate.state, 't:' .. id, estimate)
      redis.call('HINCRBY', rate.state, 'sum', estimate)
    end
    touch(rate, lease)
  end
  return {'ok', 0, 0, '', unpack(names_of(woken))}
end

local waiting = {}
for _, i in ipairs(waits_for) do
  waiting[i] = true
end
local latest, because, bound = -1, 0, ''
for i, rate in ipairs(rates) do
  if waiting[i] then
    local at, why = when(rate, step, estimate, now, lease)
    if at > latest then
      latest, because, bound = at, i, why
    end
  else
    leave(rate, step)  -- it must not keep from others what it cannot use yet
    wake(rate, now, wake_ms, woken)
  end
  touch(rate, lease)
end
woken[step] = nil
return {'wait', int(math.max(50, latest - now)), because, bound, unpack(names_of(woken))}
