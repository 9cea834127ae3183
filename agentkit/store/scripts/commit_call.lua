-- Give a tool call its result and close its step, beside others that are open. KEYS: run, messages, events,
-- queued messages.
-- ARGV: commit id, step, token, index of the call, its tool result message, events kept, schema version, bytes of what
-- is queued up to which a state brings it along, events...
-- Returns 'missing', 'lost', {'state', state...} where a commit must say what follows (it is the last open step, or the
-- run is to be aborted, or its record is an older one), or {version, seq before the events, last seq}.
local run = KEYS[1]
local known = redis.call('HMGET', run, 'v', 'acts', 'sv', 'abort', 'open', 'fl')
if not known[1] then
  return 'missing'
end
local before = answered(known[2], ARGV[1])
if before then
  return before
end
local s = step_get(run, ARGV[2])
if not s or s.token ~= ARGV[3] then
  return 'lost'
end
if known[4] or known[3] ~= ARGV[7] or not known[5] or known[5] == '1' then
  return {'state', state_of(run, little_of(run, KEYS[4], ARGV[8]))}
end

redis.call('HSET', run, 'r:' .. ARGV[4], ARGV[5])
redis.call('HDEL', run, 's:' .. ARGV[2], 'c:' .. ARGV[2])
redis.call('HINCRBY', run, 'open', -1)
local bodies = {}
for i = 9, #ARGV do
  bodies[i - 8] = ARGV[i]
end
-- Results become messages in the order of their calls.
local flushed = tonumber(known[6])
local message = redis.call('HGET', run, 'r:' .. flushed)
while message and message ~= '' do
  local reference = '\1' .. int(redis.call('RPUSH', KEYS[2], message) - 1) .. ' 1\1}'
  bodies[#bodies + 1] = '{"type":"message_start","message":' .. reference
  bodies[#bodies + 1] = '{"type":"message_end","message":' .. reference
  redis.call('HSET', run, 'r:' .. flushed, '')
  flushed = flushed + 1
  message = redis.call('HGET', run, 'r:' .. flushed)
end
local seq = append_events(run, KEYS[2], KEYS[3], bodies, ARGV[6])
redis.call('HSET', run, 'fl', flushed, 'up', int(now_ms()))
return committed(run, known[2], ARGV[1], seq, #bodies)
