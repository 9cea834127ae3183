-- Read a run. KEYS: run, messages, queued messages. ARGV: whether its messages are wanted ('1'), and those that wait;
-- schema version, the index of the one call that is wanted ('' for all), a pending item whose call it is ('' for none).
-- Returns 'missing' or the state; the whole one where there is no such call, or the record is an older one.
local run = KEYS[1]
if redis.call('EXISTS', run) == 0 then
  return 'missing'
end
local call = ARGV[4]
if ARGV[5] ~= '' then
  call = redis.call('HGET', run, 'p:' .. ARGV[5]) or ''
end
if call ~= '' and redis.call('HGET', run, 'sv') == ARGV[3] and redis.call('HEXISTS', run, 'k:' .. call) == 1 then
  return part_of(run, call)
end
return state_of(run, ARGV[2] == '1' and all_of(KEYS[3]), ARGV[1] == '1' and all_of(KEYS[2]))
