-- Read a run. KEYS: run, messages, queued messages. ARGV: whether its messages are wanted ('1'), and those that wait.
-- Returns 'missing' or the state.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 'missing'
end
return state_of(KEYS[1], ARGV[2] == '1' and all_of(KEYS[3]), ARGV[1] == '1' and all_of(KEYS[2]))
