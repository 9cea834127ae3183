-- Read a run for a backup, at one moment. KEYS: run, messages, events, resolutions, queued messages, outbox.
-- Returns 'missing' or {now, fields of the run, how many messages it has, fields of the resolutions, queued messages,
-- entries of the outbox, ms that it is kept yet (-1: it has not ended)}.
local fields = redis.call('HGETALL', KEYS[1])
if #fields == 0 then
  return 'missing'
end
return {int(now_ms()), fields, redis.call('LLEN', KEYS[2]), redis.call('HGETALL', KEYS[4]), all_of(KEYS[5]),
  redis.call('HGETALL', KEYS[6]), redis.call('PTTL', KEYS[1])}
