-- Forget an ended run. KEYS: run, messages, events, resolutions. Returns 'missing', 'running' or 'ok'.
local status = redis.call('HGET', KEYS[1], 'status')
if not status then
  return 'missing'
end
if status ~= 'completed' and status ~= 'failed' and status ~= 'aborted' then
  return 'running'
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
redis.call('PUBLISH', KEYS[3], '')
redis.call('PUBLISH', KEYS[1], '')
return 'ok'
