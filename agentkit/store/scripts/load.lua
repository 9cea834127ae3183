-- Read a run. KEYS: run, messages. ARGV: the first message wanted ('': that of the open turn, 'none').
-- Returns 'missing' or the state.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 'missing'
end
if ARGV[1] == 'none' then
  return {int(now_ms()), redis.call('HGETALL', KEYS[1]), {}}
end
return state_of(KEYS[1], KEYS[2], ARGV[1] ~= '' and ARGV[1] or redis.call('HGET', KEYS[1], 'from'))
