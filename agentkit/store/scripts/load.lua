-- Read a run. KEYS: run, messages. ARGV: whether its messages are wanted ('1').
-- Returns 'missing' or the state.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 'missing'
end
return state_of(KEYS[1], ARGV[1] == '1' and KEYS[2] or nil)
