-- Make a change true. KEYS: run, messages, events, resolutions, the mark that it was deleted, the queues of the
-- messages to push.
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

-- What a commit was answered that is among the run's last few; nil otherwise.
local function answered(acts)
  for id, version, before, last in string.gmatch(acts or '', '(%S+) (%d+) (%d+) (%d+)\n') do
    if id == ARGV[1] then
      return {version, before, last}
    end
  end
end

local known = redis.call('HMGET', run, 'v', 'acts')
if ARGV[2] == 'new' then
  if known[1] then
    return answered(known[2]) or 'exists'
  end
  if redis.call('EXISTS', KEYS[5]) == 1 then
    return 'exists'
  end
  redis.call('HSET', run, 'fixed', ARGV[6], 'sv', ARGV[12], 'v', 0, 'tok', 0, 'seq', 0)
else
  if not known[1] then
    return 'missing'
  end
  local before = answered(known[2])
  if before then
    return before
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
local version, last = redis.call('HINCRBY', run, 'v', 1), int(before + #bodies)
local acts = {ARGV[1] .. ' ' .. int(version) .. ' ' .. int(before) .. ' ' .. last .. '\n'}
for act in string.gmatch(known[2] or '', '[^\n]+\n') do
  if #acts < 8 then
    acts[#acts + 1] = act
  end
end
redis.call('HSET', run, 'status', ARGV[5], 'state', ARGV[7], 'from', ARGV[8], 'acts', table.concat(acts))
if ARGV[9] ~= '' or ARGV[5] == 'paused' then
  redis.call('PUBLISH', run, '')
end
if ARGV[9] ~= '' then
  redis.call('HDEL', run, 'c')
  for i = 1, 4 do
    redis.call('PEXPIRE', KEYS[i], ARGV[9])
  end
end
for i = 6, #KEYS do
  redis.call('LPUSH', KEYS[i], take())
end
return {version, int(before), last}
