-- Make a run a thread's last one, and note the messages that it takes. KEYS: the thread.
-- ARGV: run, the run that is to be the last one so far ('' where there is none), ms that the thread is kept, then field
-- and value of each message. Returns 'ok', or 'moved' where the last run is another or a message is known.
local last = redis.call('HGET', KEYS[1], 'run') or ''
if last ~= ARGV[2] then
  return 'moved'
end
for i = 4, #ARGV, 2 do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then
    return 'moved'
  end
end
if last ~= ARGV[1] then
  redis.call('HSET', KEYS[1], 'run', ARGV[1], 'before', last)
end
for i = 4, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 'ok'
