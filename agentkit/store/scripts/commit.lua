-- Make a change true. KEYS: run, messages, events, resolutions, the mark that it was deleted, queued messages, outbox,
-- the queues of the messages to push.
-- ARGV: commit id, version ('new': create), step ('' without lease), token, status, fixed ('' where it is stored),
--   state, index of the open turn's first message, how many of its calls have messages, ttl ms ('' unless ended),
--   events kept, on_claim lines, schema version, how many calls to forget, abort ('' to leave it as it is), bytes of what
--   is queued up to which a state brings it along, the index of the one call that was read ('' where all were), how many
--   calls wait and on how many a sub-agent's run works (of one call: how many more), how many more steps are open
--   afterwards, then counted lists:
--   messages; calls (index, JSON); results (index, JSON); events; opened steps (number, from, due ms, call, first-claim
--   lines); closed steps; tool steps to be marked with their call (number, call); resolutions (decision id, tool call
--   id, index among the events, JSON); pending items (decision id, index of its call or '' where it is gone);
--   receipts (name, seq before the reply or '' for that before the events, JSON); places in the list of queued messages
--   whose message was taken; messages to queue after the others; entries of the outbox (id, JSON); and the messages to
--   push, one a queue.
-- A change of one call is made true if nothing that it depends on has changed ('w' in common.lua), and if something else
-- goes on. Returns 'missing', 'exists', 'lost', {'state', state...} where it must be computed again, or
-- {version, seq before the change's events, last seq}.
local run = KEYS[1]
local part = ARGV[17] ~= ''
local at = 21
local function take()
  at = at + 1
  return ARGV[at - 1]
end

local known = redis.call('HMGET', run, 'v', 'acts', 'open', 'w', 'work')
if ARGV[2] == 'new' then
  if known[1] then
    return answered(known[2], ARGV[1]) or 'exists'
  end
  if redis.call('EXISTS', KEYS[5]) == 1 then
    return 'exists'
  end
  redis.call('HSET', run, 'v', 0, 'tok', 0, 'seq', 0)
else
  if not known[1] then
    return 'missing'
  end
  local before = answered(known[2], ARGV[1])
  if before then
    return before
  end
  if ARGV[3] ~= '' then
    local s = step_get(run, ARGV[3])
    if not s or s.token ~= ARGV[4] then
      return 'lost'
    end
  end
  local function whole()
    return {'state', state_of(run, little_of(run, KEYS[6], ARGV[16]))}
  end
  if not part and known[1] ~= ARGV[2] then
    return whole()
  end
  if part then
    if redis.call('HEXISTS', run, 'k:' .. ARGV[17]) == 0 then
      return whole()
    end
    if known[4] ~= ARGV[2] then
      return {'state', part_of(run, ARGV[17], ARGV[3] ~= '' and ARGV[3] or nil)}
    end
    if ARGV[5] ~= 'paused' and known[3] + ARGV[20] + known[5] + ARGV[19] <= 0 then
      return whole()
    end
  end
end

for _ = 1, tonumber(take()) do
  redis.call('RPUSH', KEYS[2], take())
end
for index = 0, tonumber(ARGV[14]) - 1 do
  redis.call('HDEL', run, 'k:' .. index, 'r:' .. index)
end
for _ = 1, tonumber(take()) do
  redis.call('HSET', run, 'k:' .. take(), take())
end
for _ = 1, tonumber(take()) do
  redis.call('HSET', run, 'r:' .. take(), take())
end
local bodies = {}
for i = 1, tonumber(take()) do
  bodies[i] = take()
end
if part then
  flush_results(run, KEYS[2], bodies)
end
local before = append_events(run, KEYS[2], KEYS[3], bodies, ARGV[11])
local open = tonumber(known[3] or open_steps(run))
for _ = 1, tonumber(take()) do
  local number = take()
  local from, due, call = take(), tonumber(take()), take()
  -- A step that is due later is held by nobody (token 0) until then.
  step_set(run, number, {token = '0', till = due, attempt = 0, flush = 0, from = from, claim = '-', call = call})
  open = open + 1
  local lines = take()
  if lines ~= '' then
    redis.call('HSET', run, 'c:' .. number, lines)
  end
end
for _ = 1, tonumber(take()) do
  local number = take()
  open = open - redis.call('HDEL', run, 's:' .. number)
  redis.call('HDEL', run, 'c:' .. number)
end
for _ = 1, tonumber(take()) do
  local number, call = take(), take()
  local s = step_get(run, number)
  if s then
    s.call = call
    step_set(run, number, s)
  end
end
for _ = 1, tonumber(take()) do
  local decision, call, event, json = take(), take(), take(), take()
  redis.call('HSET', KEYS[4], 'd:' .. decision, int(before + tonumber(event) + 1) .. ' ' .. json, 't:' .. call, decision)
end
for _ = 1, tonumber(take()) do
  local decision, call = take(), take()
  if call == '' then
    redis.call('HDEL', run, 'p:' .. decision)
  else
    redis.call('HSET', run, 'p:' .. decision, call)
  end
end
for _ = 1, tonumber(take()) do
  local name, since, json = take(), take(), take()
  redis.call('HSET', KEYS[4], 'i:' .. name, (since == '' and int(before) or since) .. ' ' .. json)
end
local taken, bytes = tonumber(take()), 0
for _ = 1, taken do
  local place = take()
  bytes = bytes - #(redis.call('LINDEX', KEYS[6], place) or '')
  redis.pcall('LSET', KEYS[6], place, '')  -- pcall: nothing may end a commit half way, were the list lost
end
if taken > 0 then
  redis.call('LREM', KEYS[6], taken, '')
end
for _ = 1, tonumber(take()) do
  local message = take()
  bytes = bytes + #message
  redis.call('RPUSH', KEYS[6], message)
end
if bytes ~= 0 then
  redis.call('HINCRBY', run, 'qb', int(bytes))
end
local entries = tonumber(take())
for _ = 1, entries do
  local id, json = take(), take()
  redis.call('HSET', KEYS[7], id, '0 0 ' .. json)
end
if entries > 0 then
  redis.call('HSET', run, 'ob', '1')
end
redis.call('HSET', run, 'status', ARGV[5], 'state', ARGV[7], 'open', int(open), 'sv', ARGV[13])
redis.call('HINCRBY', run, 'w', 1)
if part then
  redis.call('HINCRBY', run, 'wait', ARGV[18])
  redis.call('HINCRBY', run, 'work', ARGV[19])
else
  redis.call('HSET', run, 'from', ARGV[8], 'fl', ARGV[9], 'wait', ARGV[18], 'work', ARGV[19])
end
if ARGV[6] ~= '' then
  redis.call('HSET', run, 'fixed', ARGV[6])
end
if ARGV[12] ~= '' then
  redis.call('HSET', run, 'c', ARGV[12])
end
if ARGV[15] ~= '' then
  redis.call('HSET', run, 'abort', ARGV[15])
end
local reply = committed(run, known[2], ARGV[1], before, #bodies)
if ARGV[10] ~= '' or ARGV[5] == 'paused' then
  redis.call('PUBLISH', run, '')
end
if ARGV[10] ~= '' then
  redis.call('HDEL', run, 'c', 'abort')
  for i = 1, 4 do
    redis.call('PEXPIRE', KEYS[i], ARGV[10])
  end
end
for i = 8, #KEYS do
  redis.call('LPUSH', KEYS[i], take())
end
return reply
