-- Lend a step. KEYS: run, messages, events. ARGV: step, lease ms, events kept, schema version, claim id.
-- Returns 'missing', 'no', 'newer' (a record that this worker cannot read: it stays untouched) or {token, attempt, state...}.
local run, step = KEYS[1], ARGV[1]
local s = step_get(run, step)
if not s then
  return redis.call('EXISTS', run) == 1 and 'no' or 'missing'
end
if unreadable(redis.call('HGET', run, 'sv'), ARGV[4]) then
  return 'newer'
end
local now = now_ms()
if s.claim == ARGV[5] then  -- sent again because its reply was lost
  return {s.token, int(s.attempt), state_of(run, KEYS[2], s.from)}
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
  append_events(run, KEYS[3], bodies, ARGV[3])
end
if redis.call('HGET', run, 'status') == 'queued' then
  redis.call('HSET', run, 'status', 'running')
end
redis.call('HINCRBY', run, 'v', 1)
return {s.token, int(s.attempt), state_of(run, KEYS[2], s.from)}
