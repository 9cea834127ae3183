-- Say where a log stands. KEYS: run, events. ARGV: schema version. The entries themselves are read right before
-- it (agentkit/store/redis_log.py): through a script they cost ten times as much.
-- Returns 'missing', 'newer', 'encrypted' or {status, last seq, first entry kept}.
local known = redis.call('HMGET', KEYS[1], 'status', 'seq', 'sv')
if not known[1] then
  return 'missing'
end
local why = unreadable(known[3], ARGV[1])
if why then
  return why
end
return {known[1], known[2], redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)}
