-- Ask whoever holds a step of a run to end it. KEYS: run. ARGV: version, JSON of the request.
-- Returns 'missing', 'conflict' or 'ok'.
local version = redis.call('HGET', KEYS[1], 'v')
if not version then
  return 'missing'
end
if version ~= ARGV[1] then
  return 'conflict'
end
redis.call('HSET', KEYS[1], 'abort', ARGV[2])
redis.call('HINCRBY', KEYS[1], 'v', 1)
redis.call('HINCRBY', KEYS[1], 'w', 1)
return 'ok'
