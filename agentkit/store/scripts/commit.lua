-- Make a change true. KEYS: run, messages, events, resolutions, the queues of the messages to push.
-- ARGV: commit id, version ('new': create), step ('' without lease), token, status, fixed ('' unless new), state,
--   from, ttl ms ('' unless ended), events kept, on_claim lines, schema version, then counted lists:
--   messages; events; opened steps (number, from, due ms, first-claim lines); closed steps;
--   resolutions (decision id, tool call id, index among the events, JSON); and the messages to push, one a queue.
-- Returns 'missing', 'exists', 'conflict', 'lost' or {version, seq before the change's events, last seq}.
local run = KEYS[1]
local at = 13
local function take()
  at = at + 1
  return ARGV[at - 1]
end

if ARGV[2] == 'new' then
  local known = redis.call('HMGET', run, 'v', 'cid', 'seq', 'cseq')
  if known[1] then
    return known[2] == ARGV[1] and {known[1], known[4], known[3]} or 'exists'
  end
  redis.call('HSET', run, 'fixed', ARGV[6], 'sv', ARGV[12], 'v', 0, 'tok', 0, 'seq', 0)
else
  local known = redis.call('HMGET', run, 'v', 'cid', 'seq', 'cseq')
  if not known[1] then
    return 'missing'
  end
  if known[2] == ARGV[1] then
    return {known[1], known[4], known[3]}
  end
  if ARGV[3] ~= '' then
    local s = step_get(run, ARGV[3])
    if not s or s.token ~= ARGV[4] then
      return 'lost'
    end
  end
  if known[1] ~= ARGV[2] then
    return 'conflict'
  end
end

for _ = 1, tonumber(take()) do
  redis.call('RPUSH', KEYS[2], take())
end
local bodies = {}
for i = 1, tonumber(take()) do
  bodies[i] = take()
end
local before = append_events(run, KEYS[3], bodies, ARGV[10])
for _ = 1, tonumber(take()) do
  local number = take()
  local from, due = take(), tonumber(take())
  -- A step that is due later is held by nobody (token 0) until then.
  step_set(run, number, {token = '0', till = due, attempt = 0, flush = 0, from = from, claim = '-'})
  local lines = take()
  if lines ~= '' then
    redis.call('HSET', run, 'c:' .. number, lines)
  end
end
for _ = 1, tonumber(take()) do
  local number = take()
  redis.call('HDEL', run, 's:' .. number, 'c:' .. number)
end
for _ = 1, tonumber(take()) do
  local decision, call, event, json = take(), take(), take(), take()
  redis.call('HSET', KEYS[4], 'd:' .. decision, int(before + tonumber(event) + 1) .. ' ' .. json, 't:' .. call, decision)
end
if ARGV[11] ~= '' then
  redis.call('HSET', run, 'c', ARGV[11])
end
redis.call('HSET', run, 'status', ARGV[5], 'state', ARGV[7], 'from', ARGV[8], 'cid', ARGV[1], 'cseq', int(before))
if ARGV[9] ~= '' or ARGV[5] == 'paused' then
  redis.call('PUBLISH', run, '')
end
if ARGV[9] ~= '' then
  redis.call('HDEL', run, 'c')
  for i = 1, 4 do
    redis.call('PEXPIRE', KEYS[i], ARGV[9])
  end
end
for i = 5, #KEYS do
  redis.call('LPUSH', KEYS[i], take())
end
return {redis.call('HINCRBY', run, 'v', 1), int(before), int(before + #bodies)}
