-- Lend a step. KEYS: run, messages, events, queued messages. ARGV: step, lease ms, events kept, schema version, claim id,
-- bytes of what is queued up to which a state brings it along, number of the first message that a model step reads.
-- Returns 'missing', 'no', 'newer' or 'encrypted' (a record that this worker cannot read: it stays untouched) or
-- {token, attempt, '1' if the state is whole, state, how many events it appended}.
local run, step = KEYS[1], ARGV[1]
local hash = hash_of(run, {'s:' .. step, 'sv', 'seq', 'tok', 'c', 'c:' .. step, 'status', 'v'})
local s = step_get(hash, step)
if not s then
  return redis.call('EXISTS', run) == 1 and 'no' or 'missing'
end
local why = unreadable(get(hash, 'sv'), ARGV[4])
if why then
  return why
end

local before = get(hash, 'seq')
if s.claim ~= ARGV[5] then  -- else it is sent again because its reply was lost
  if s.till > now_ms() and not (s.token == '0' and s.claim == '=') then
    return 'no'
  end
  local log = log_of(KEYS[2], KEYS[3], ARGV[3])
  lend(hash, log, step, s, ARGV[2], ARGV[5])
  write_log(hash, log)
  save(hash)
end
local reply = lent(run, KEYS[2], KEYS[4], step, s, ARGV[4], ARGV[6], ARGV[7])
reply[5] = get(hash, 'seq') - before
return reply
