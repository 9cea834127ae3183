-- Read a log. KEYS: run, events. ARGV: the first seq wanted, how many, schema version.
-- Returns 'missing', 'newer' or {status, last seq, first entry kept, entries}.
local known = redis.call('HMGET', KEYS[1], 'status', 'seq', 'sv')
if not known[1] then
  return 'missing'
end
if unreadable(known[3], ARGV[3]) then
  return 'newer'
end
return {
  known[1],
  known[2],
  redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1),
  redis.call('XRANGE', KEYS[2], ARGV[1] .. '-0', '+', 'COUNT', ARGV[2]),
}
