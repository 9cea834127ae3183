-- Make a change true. KEYS: run, messages, events, resolutions, the mark that it was deleted, queued messages, outbox,
-- the queues of the messages to push.
-- ARGV: commit id, version ('new': create), step ('' without lease), token, status, fixed ('' where it is stored),
--   state, index of the open turn's first message, how many of its calls have messages, ttl ms ('' unless ended),
--   events kept, on_claim lines, schema version, how many calls to forget, abort ('' to leave it as it is), bytes of what
--   is queued up to which a state brings it along, the index of the one call that was read ('' where all were), how many
--   calls wait and on how many a sub-agent's run works (of one call: how many more), how many more steps are open
--   afterwards, the opened step to lend to the committer in the same act ('' for none), its lease ms, how many of the
--   run's messages the committer will have, how many calls the open turn has, then counted lists:
--   messages; calls (index, JSON); results (index, JSON); events; opened steps (number, from, due ms, call, first-claim
--   lines); closed steps; tool steps to be marked with their call (number, call); resolutions (decision id, tool call
--   id, index among the events, JSON); pending items (decision id, index of its call or '' where it is gone);
--   receipts (name, seq before the reply or '' for that before the events, JSON); places in the list of queued messages
--   whose message was taken; messages to queue after the others; entries of the outbox (id, JSON); and the messages to
--   push, one a queue.
-- A change of one call is made true if nothing that it depends on has changed ('w' in common.lua), and if something else
-- goes on. Returns 'missing', 'exists', 'lost', {'state', state...} where it must be computed again, or
-- {version, seq before the change's events, last seq} and, where the step was lent, what claim.lua
-- returns for it, or {token, version, last seq, until, messages...} where the committer knows the rest.
local run = KEYS[1]
local part = ARGV[17] ~= ''

local names = {'v', 'acts', 'open', 'w', 'work', 'wait', 'seq', 'tok', 'status', 'fl', 'c', 's:' .. ARGV[3]}
if part then
  names[#names + 1] = 'k:' .. ARGV[17]
end
local hash, log = hash_of(run, names), log_of(KEYS[2], KEYS[3], ARGV[11])
if ARGV[2] == 'new' then
  if get(hash, 'v') then
    return answered(get(hash, 'acts'), ARGV[1]) or 'exists'
  end
  if redis.call('EXISTS', KEYS[5]) == 1 then
    return 'exists'
  end
  for _, name in ipairs({'v', 'tok', 'seq'}) do
    set(hash, name, 0)
  end
else
  if not get(hash, 'v') then
    return 'missing'
  end
  local before = answered(get(hash, 'acts'), ARGV[1])
  if before then
    before[4] = lent_again(hash, ARGV)
    return before
  end
  if ARGV[3] ~= '' then
    local s = step_get(hash, ARGV[3])
    if not s or s.token ~= ARGV[4] then
      return 'lost'
    end
  end
  local function whole()
    return {'state', state_of(run, little_of(run, KEYS[6], ARGV[16]))}
  end
  if not part and get(hash, 'v') ~= ARGV[2] then
    return whole()
  end
  if part then
    if not get(hash, 'k:' .. ARGV[17]) then
      return whole()
    end
    if get(hash, 'w') ~= ARGV[2] then
      return {'state', part_of(run, ARGV[17], ARGV[3] ~= '' and ARGV[3] or nil)}
    end
    if ARGV[5] ~= 'paused' and get(hash, 'open') + ARGV[20] + get(hash, 'work') + ARGV[19] <= 0 then
      return whole()
    end
  end
end

return write_change(hash, log, ARGV, {})
