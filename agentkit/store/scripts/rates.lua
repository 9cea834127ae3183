-- What the scripts of rates share; it is put before each of them.

-- Reads the rates from KEYS, six each, and from ARGV beginning with number `at`, four each.
local function rates_of(at)
  local rates = {}
  for i = 0, #KEYS / 6 - 1 do
    rates[i + 1] = {
      state = KEYS[6 * i + 1], window = KEYS[6 * i + 2], slots = KEYS[6 * i + 3],
      queue = KEYS[6 * i + 4], woken = KEYS[6 * i + 5], fair = KEYS[6 * i + 6],
      requests = tonumber(ARGV[at + 4 * i]), tokens = tonumber(ARGV[at + 4 * i + 1]),
      per = tonumber(ARGV[at + 4 * i + 2]), concurrent = tonumber(ARGV[at + 4 * i + 3]),
    }
  end
  return rates
end

-- Takes a step out of a rate's queue.
local function leave(rate, step)
  redis.call('ZREM', rate.queue, step)
  redis.call('ZREM', rate.woken, step)
  redis.call('HDEL', rate.state, 'w:' .. step)
end

-- Forgets what no longer counts: calls whose time is over, ended leases, steps that were woken and did not come.
local function prune(rate, now)
  redis.call('ZREMRANGEBYSCORE', rate.slots, '-inf', int(now))
  local over = redis.call('ZRANGEBYSCORE', rate.window, '-inf', int(now - rate.per), 'LIMIT', 0, 1000)
  for _, id in ipairs(over) do
    local counted = redis.call('HGET', rate.state, 't:' .. id)
    if counted then
      redis.call('HINCRBY', rate.state, 'sum', int(-tonumber(counted)))
      redis.call('HDEL', rate.state, 't:' .. id)
    end
    redis.call('ZREM', rate.window, id)
  end
  for _, step in ipairs(redis.call('ZRANGEBYSCORE', rate.woken, '-inf', int(now))) do
    leave(rate, step)
  end
end

-- Gives a step its place in the queue: behind those that its owner has there, and beside the first of other owners (start-time
-- fair queuing: Goyal, Vin and Cheng, 1996).
local function join(rate, step, owner, estimate)
  if redis.call('ZSCORE', rate.queue, step) then
    return
  end
  if redis.call('ZCARD', rate.queue) == 0 then
    redis.call('DEL', rate.fair)
  end
  local v = tonumber(redis.call('HGET', rate.state, 'v') or '0')
  local place = math.max(v, tonumber(redis.call('ZSCORE', rate.fair, owner) or '0'))
  redis.call('ZADD', rate.fair, int(place + 1), owner)
  redis.call('ZADD', rate.queue, int(place), step)
  redis.call('HSET', rate.state, 'w:' .. step, int(estimate))
end

-- Wakes the steps whose turn has come, as far as there is room beside those that were woken before; adds them to `woken`.
local function wake(rate, now, wake_ms, woken)
  local room = 1000
  if rate.concurrent then
    room = math.min(room, rate.concurrent - redis.call('ZCARD', rate.slots))
  end
  if rate.requests then
    room = math.min(room, rate.requests - redis.call('ZCARD', rate.window))
  end
  local before = redis.call('ZRANGEBYSCORE', rate.woken, '-inf', '+inf')
  room = room - #before
  if room <= 0 then
    return
  end
  local used = 0
  if rate.tokens then
    used = tonumber(redis.call('HGET', rate.state, 'sum') or '0')
    for _, step in ipairs(before) do
      used = used + tonumber(redis.call('HGET', rate.state, 'w:' .. step) or '0')
    end
  end
  local queued = redis.call('ZRANGEBYSCORE', rate.queue, '-inf', '+inf', 'LIMIT', 0, int(#before + room))
  for _, step in ipairs(queued) do
    if not redis.call('ZSCORE', rate.woken, step) then
      if rate.tokens then
        local estimate = tonumber(redis.call('HGET', rate.state, 'w:' .. step) or '0')
        if used > 0 and used + estimate > rate.tokens then
          return
        end
        used = used + estimate
      end
      redis.call('ZADD', rate.woken, int(now + wake_ms), step)
      woken[step] = true
      room = room - 1
      if room == 0 then
        return
      end
    end
  end
end

-- When a step that waits may ask again (ms), as far as that can be known, and for which bound it waits.
local function when(rate, step, estimate, now, lease)
  local rank = redis.call('ZCOUNT', rate.queue, '-inf', '(' .. redis.call('ZSCORE', rate.queue, step))
  if rate.concurrent and redis.call('ZCARD', rate.slots) + redis.call('ZCARD', rate.woken) >= rate.concurrent then
    -- Woken by whoever ends a call. This is for the case that its process dies.
    local first = redis.call('ZRANGEBYSCORE', rate.slots, '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    return (tonumber(first[2]) or now + lease) + 100 + 20 * rank, 'concurrent'
  end
  if rate.requests and redis.call('ZCARD', rate.window) + redis.call('ZCARD', rate.woken) >= rate.requests then
    local place = redis.call('ZCARD', rate.window) - rate.requests + rank
    local rounds = math.floor(place / rate.requests)
    local found = redis.call('ZRANGEBYSCORE', rate.window, '-inf', '+inf', 'WITHSCORES', 'LIMIT',
      int(math.max(0, place % rate.requests)), 1)
    return (tonumber(found[2]) or now) + rate.per * (1 + math.max(0, rounds)) + 1, 'requests'
  end
  if rate.tokens then
    local left = tonumber(redis.call('HGET', rate.state, 'sum') or '0') + estimate - rate.tokens
    local calls = redis.call('ZRANGEBYSCORE', rate.window, '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, 1000)
    for i = 1, #calls, 2 do
      left = left - tonumber(redis.call('HGET', rate.state, 't:' .. calls[i]) or '0')
      if left <= 0 or i + 2 > #calls then
        return tonumber(calls[i + 1]) + rate.per + 1 + 20 * rank, 'tokens'
      end
    end
  end
  return now + 1000, rate.tokens and 'tokens' or rate.requests and 'requests' or 'concurrent'
end

-- Has the keys of a rate go a day after nobody asked.
local function touch(rate, lease)
  local ttl = int(math.max(rate.per, lease) + 86400000)
  for _, key in ipairs({rate.state, rate.window, rate.slots, rate.queue, rate.woken, rate.fair}) do
    redis.call('PEXPIRE', key, ttl)
  end
end

local function names_of(set)
  local names = {}
  for name in pairs(set) do
    names[#names + 1] = name
  end
  return names
end
