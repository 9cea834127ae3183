-- Forget an ended run, but not its outbox. KEYS: run, messages, events, resolutions, the mark that it was deleted, queued
-- messages.
-- ARGV: schema version, ms that the mark stays.
-- Returns 'missing', 'newer', 'encrypted', 'running' or 'ok'.
local known = redis.call('HMGET', KEYS[1], 'status', 'sv')
local status = known[1]
if not status then
  return 'missing'
end
local why = unreadable(known[2], ARGV[1])
if why then
  return why
end
if status ~= 'completed' and status ~= 'failed' and status ~= 'aborted' then
  return 'running'
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[6])
redis.call('SET', KEYS[5], '', 'PX', ARGV[2])
redis.call(PUBLISH, KEYS[3], '')
redis.call(PUBLISH, KEYS[1], '')
return 'ok'
