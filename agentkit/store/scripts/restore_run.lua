-- Make what is staged a run. KEYS: run, messages, events, resolutions, queued messages, outbox, the mark that it was
-- deleted, the staged six, and who stages it. ARGV: the mark of the line that it comes from, who has staged it, when it
-- expires (ms; '' for a run that has not ended).
-- Returns 'absent' where nothing is staged, or another import stages it now, 'exists', 'restored' (it is there already,
-- from the same line), 'deleted' or 'ok'.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.call('HGET', KEYS[1], 'im') == ARGV[1] and 'restored' or 'exists'
end
if redis.call('EXISTS', KEYS[7]) == 1 then
  return 'deleted'
end
if redis.call('GET', KEYS[14]) ~= ARGV[2] or redis.call('HGET', KEYS[8], 'im') ~= ARGV[1] then
  return 'absent'
end
for i = 1, 6 do
  redis.call('DEL', KEYS[i])
  if redis.call('EXISTS', KEYS[i + 7]) == 1 then
    redis.call('RENAME', KEYS[i + 7], KEYS[i])
    if ARGV[3] == '' or i > 4 then
      redis.call('PERSIST', KEYS[i])
    else
      redis.call('PEXPIREAT', KEYS[i], ARGV[3])
    end
  end
end
redis.call('DEL', KEYS[14])
return 'ok'
