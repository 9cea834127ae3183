-- Lend a step. KEYS: run, messages, events, queued messages. ARGV: step, lease ms, events kept, schema version, claim id,
-- bytes of what is queued up to which a state brings it along.
-- Returns 'missing', 'no', 'newer' or 'encrypted' (a record that this worker cannot read: it stays untouched) or
-- {token, attempt, '1' if the state is whole, state...}.
local run, step = KEYS[1], ARGV[1]
local s = step_get(run, step)
if not s then
  return redis.call('EXISTS', run) == 1 and 'no' or 'missing'
end
local why = unreadable(redis.call('HGET', run, 'sv'), ARGV[4])
if why then
  return why
end

-- What the step reads. One of many tool calls that are open together reads itself alone.
local function lent()
  if s.from == '0' then
    return {s.token, int(s.attempt), '1', state_of(run, little_of(run, KEYS[4], ARGV[6]), all_of(KEYS[2]))}
  end
  local known = redis.call('HMGET', run, 'open', 'sv')
  if s.call == '' or known[1] == '1' or known[2] ~= ARGV[4] then
    return {s.token, int(s.attempt), '1', state_of(run, little_of(run, KEYS[4], ARGV[6]))}
  end
  return {s.token, int(s.attempt), '', part_of(run, s.call, step)}
end

local now = now_ms()
if s.claim == ARGV[5] then  -- sent again because its reply was lost
  return lent()
end
if s.till > now then
  return 'no'
end
s.token = int(redis.call('HINCRBY', run, 'tok', 1))
s.till = now + tonumber(ARGV[2])
if s.claim ~= '=' then
  s.attempt = s.attempt + 1
end
s.flush = 0
s.claim = ARGV[5]
step_set(run, step, s)
local bodies = {}
add_lines(bodies, redis.call('HGET', run, 'c'))
add_lines(bodies, redis.call('HGET', run, 'c:' .. step))
if #bodies > 0 then
  redis.call('HDEL', run, 'c', 'c:' .. step)
  append_events(run, KEYS[2], KEYS[3], bodies, ARGV[3])
end
if redis.call('HGET', run, 'status') == 'queued' then
  redis.call('HSET', run, 'status', 'running')
  redis.call('HINCRBY', run, 'w', 1)
end
redis.call('HINCRBY', run, 'v', 1)
return lent()
