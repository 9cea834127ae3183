-- End the step of a tool call, beside others that are open: with its result, or since a sub-agent's run works on it.
-- KEYS: run, messages, events, queued messages.
-- ARGV: commit id, step, token, index of the call, its tool result message or '', JSON of the call or '', events kept,
-- schema version, bytes of what is queued up to which a state brings it along, events...
-- Returns 'missing', 'lost', {'state', state...} where a commit must say what follows (it is the last open step, or the
-- run is to be aborted, or its record is an older one), or {version, seq before the events, last seq}.
local run = KEYS[1]
local known = redis.call('HMGET', run, 'v', 'acts', 'sv', 'abort', 'open')
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
if known[4] or known[3] ~= ARGV[8] or known[5] == '1' then
  return {'state', state_of(run, little_of(run, KEYS[4], ARGV[9]))}
end

redis.call('HDEL', run, 's:' .. ARGV[2], 'c:' .. ARGV[2])
redis.call('HINCRBY', run, 'open', -1)
local bodies = {}
for i = 10, #ARGV do
  bodies[i - 9] = ARGV[i]
end
if ARGV[6] ~= '' then
  redis.call('HSET', run, 'k:' .. ARGV[4], ARGV[6])
  redis.call('HINCRBY', run, 'work', 1)
else
  redis.call('HSET', run, 'r:' .. ARGV[4], ARGV[5])
  flush_results(run, KEYS[2], bodies)
end
local seq = append_events(run, KEYS[2], KEYS[3], bodies, ARGV[7])
redis.call('HSET', run, 'up', int(now_ms()))
return committed(run, known[2], ARGV[1], seq, #bodies)
