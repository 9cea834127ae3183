-- Remove what was carried out from an outbox. KEYS: run, outbox. ARGV: entry ids.
redis.call('HDEL', KEYS[2], unpack(ARGV))
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('HDEL', KEYS[1], 'ob')
end
return 'ok'
