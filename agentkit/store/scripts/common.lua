-- What all scripts share. Every script works on the keys of one run, which share a cluster slot by their
-- hash tag; `due.lua` works on the due index alone.
--
-- Keys (P is AGENTKIT_KEY_PREFIX, ID the run's id)
--   P{ID}      hash     the run
--                v        version: +1 with every change of the record or of who holds its steps
--                sv       schemaVersion of the record; "N+encrypted" where its bodies are encrypted
--                fixed    JSON, written once; state  JSON, written with every commit (agentkit/core/record.py)
--                status   queued, running, paused, completed, failed, aborted
--                seq      seq of the last event; tok  the last fencing token given
--                from     index of the first message of the open turn
--                acts     the last few commits, a line each: id, version, seq before its events and of the
--                         last of them; one that is sent twice is done once
--                abort    JSON: somebody wants the run to end, and the holder of a step is to end it
--                open     how many steps are open
--                w        version of what more than one call depends on: +1 with every commit.lua, every change of the
--                         status and every request of an abort; not with the claim or the end of one call
--                wait     how many calls of the open turn wait for somebody's answer
--                work     on how many of them a sub-agent's run works
--                p:D      index of the call that pending item D belongs to
--                s:N      an open step: "token until attempt flush from claim call", until in ms, from = 0 for a model
--                         step, which reads all messages, claim = id of the claim that holds it ('=': the last one did
--                         nothing), call = index of its tool call ('' for a model step; not there before version 2)
--                c        events (one JSON a line) that the next claim appends
--                c:N      events that the first claim of step N appends
--                k:I      JSON of call I of the open turn
--                r:I      JSON of its tool result message; '' once that is in the list
--                qb       how many bytes P{ID}:q has; not there before anything was queued
--                fl       how many calls of the open turn have their message in the list
--                up       when a call last ended by itself (commit_call.lua), in ms
--                ob       P{ID}:o has entries
--   P{ID}:m    list     the messages, JSON
--   P{ID}:q    list     the messages that were sent into the run and wait, JSON (agentkit/core/messages.py); gone when
--                       none waits, at the latest when the run ends
--   P{ID}:o    hash     what commits have caused outside the run and nobody has done: entry id -> "due-ms tries json"
--                       (agentkit/core/outbox.py). It outlives the run, and goes when it is empty: the due index has the
--                       run until then
--   P{ID}:e    stream   the events; id SEQ-0, field d: JSON, in which "\1FIRST COUNT\1" stands for messages of the list
--   P{ID}:r    hash     answered items: d:DECISION -> "seq json", t:TOOLCALL -> decision id;
--                    calls with an idempotency key: i:NAME -> "seq-before-the-reply json" (agentkit/core/record.py)
--   P{ID}:x    string   the run was deleted, or is never to be made, and whoever comes late does not make it; expires
--   P{ID}:e    channel  "SEQ\n" and the same JSON, a line each; an empty message says that the run is gone
--   P{ID}      channel  an empty message: the run has paused or ended
--   Pdue       zset     run ids, scored by the time (ms) at which they are to be checked; permanent
--   Pruns      zset     run ids, score 0, read in the order of the ids; permanent
--   Pruns:NAME  zset    the same, of an owner's runs, an agent's or those of a status (agentkit/store/lists.py); permanent
--   Plisted    hash     run id -> JSON of its owner and agent, and the empty field where all lists are complete; permanent
--   Prefused   hash     recipient of notifications that wants no more -> since (ms); permanent
--   P{inbox}   hash     decision id -> JSON of a pending item's run, agent, tool, kind and owner; permanent. The empty
--                       field is there where all its lists are complete
--   P{inbox}FILTER zset decision ids, score 0, read in their order: of the pending items that a filter selects, and of a
--                       run (agentkit/store/inbox.py); gone when none is pending
--   P{audit}   hash     number and hash of the last answer of the record, number of the first that is kept; permanent. And
--                       the hash of the one before that. A chain from which all was trimmed goes on
--   P{audit}NAME        what belongs to it; permanent, but trimmed by age:
--   P{audit}:e  stream  its entries; id NUMBER-0, fields i: decision id, t: when it was recorded (ms), h: its hash, l: the
--                       names of its lists, one a line, d: its line (agentkit/core/audit.py)
--   P{audit}:d  hash    decision id -> number of its entry
--   P{audit}["…  stream  ids NUMBER-0 of the entries of an agent, a tool, an owner (agentkit/store/audit.py)
--   Pidem:KEY  string   "digest run-id", expires
--   Pprobe     string   written to see whether the server takes writes; expires
--   Pserved:Q   string   something of queue Q was executed lately; expires
--   Pprobing:Q  string   a probe of queue Q was sent lately; expires
--   Pworkers   zset     workers, scored by the time (ms) until which they count as there; expires
--
-- The keys of an ended run, but for its outbox, have a TTL; those of a run that has not ended have none.
--
-- Where the installation has a codec, each JSON of a run's keys is an encrypted piece ("\2BASE64\2", agentkit/store/bodies.py).
-- An event begins with its brace, seq and timestamp, and has its references to messages, in plain; so has what is
-- published. The digest of Pidem:KEY is such a piece too.

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Lua writes large numbers as 1.7e12.
local function int(number)
  return string.format('%.0f', number)
end

-- Why a record of the version `sv`, false where it has none, must stay untouched by whoever knows the one `known`: 'newer',
-- or 'encrypted' where they have no codec; nil where it can be read.
local function unreadable(sv, known)
  local version, how = string.match(sv or '', '^(%d+)(.*)$')
  local latest, codec = string.match(known, '^(%d+)(.*)$')
  if not version or tonumber(version) > tonumber(latest) or (how ~= '' and how ~= '+encrypted') then
    return 'newer'
  end
  if how ~= '' and codec == '' then
    return 'encrypted'
  end
end

local function step_get(run, step)
  local raw = redis.call('HGET', run, 's:' .. step)
  if not raw then
    return nil
  end
  local token, till, attempt, flush, from, claim, call =
    string.match(raw, '(%d+) (%d+) (%d+) (%d+) (%d+) (%S+) ?(%d*)')
  return {
    token = token,
    till = tonumber(till),
    attempt = tonumber(attempt),
    flush = tonumber(flush),
    from = from,
    claim = claim,
    call = call,
  }
end

local function step_set(run, step, s)
  redis.call('HSET', run, 's:' .. step, table.concat(
    {s.token, int(s.till), int(s.attempt), int(s.flush), s.from, s.claim, s.call}, ' '))
end

-- Counts the open steps of a record that has no count yet.
local function open_steps(run)
  local open = 0
  for _, name in ipairs(redis.call('HKEYS', run)) do
    if string.sub(name, 1, 2) == 's:' then
      open = open + 1
    end
  end
  return open
end

-- What the holder of a step learns.
local function lease_status(run)
  return redis.call('HEXISTS', run, 'abort') == 1 and 'abort' or 'held'
end

-- Puts messages in place of an event's references to them.
local function expand(messages, data)
  if not string.find(data, '\1', 1, true) then
    return data
  end
  return (string.gsub(data, '\1(%d+) (%d+)\1', function(first, count)
    return table.concat(redis.call('LRANGE', messages, first, int(first + count - 1)), ',')
  end))
end

-- Appends events, given without their seq and timestamp; returns the seq before the first of them, and how many
-- connections are subscribed to them.
local function append_events(run, messages, stream, bodies, max)
  local before = redis.call('HINCRBY', run, 'seq', #bodies) - #bodies
  if #bodies == 0 then
    return before, 0
  end
  local stamp = ',"timestamp":' .. int(now_ms()) .. ','
  local lines = {int(before + 1)}
  for i, body in ipairs(bodies) do
    local seq = int(before + i)
    local data = '{"seq":' .. seq .. stamp .. string.sub(body, 2)
    redis.call('XADD', stream, 'MAXLEN', max, seq .. '-0', 'd', data)
    lines[i + 1] = expand(messages, data)
  end
  return before, redis.call('PUBLISH', stream, table.concat(lines, '\n'))
end

local function add_lines(list, text)
  if text then
    for line in string.gmatch(text, '[^\n]+') do
      list[#list + 1] = line
    end
  end
end

-- What a commit of this id was answered, if it is among the run's last few; nil otherwise.
local function answered(acts, commit)
  for id, version, before, last in string.gmatch(acts or '', '(%S+) (%d+) (%d+) (%d+)\n') do
    if id == commit then
      return {version, before, last}
    end
  end
end

-- Counts a commit and remembers its answer, which it returns.
local function committed(run, acts, commit, before, events)
  local version, last = redis.call('HINCRBY', run, 'v', 1), int(before + events)
  local kept = {commit .. ' ' .. int(version) .. ' ' .. int(before) .. ' ' .. last .. '\n'}
  for act in string.gmatch(acts or '', '[^\n]+\n') do
    if #kept < 8 then
      kept[#kept + 1] = act
    end
  end
  redis.call('HSET', run, 'acts', table.concat(kept))
  return {version, int(before), last}
end

-- Makes messages of the results whose turn has come, in the order of their calls; adds their events to `bodies`.
local function flush_results(run, messages, bodies)
  local flushed = tonumber(redis.call('HGET', run, 'fl'))
  local message = redis.call('HGET', run, 'r:' .. flushed)
  while message and message ~= '' do
    local reference = '\1' .. int(redis.call('RPUSH', messages, message) - 1) .. ' 1\1}'
    bodies[#bodies + 1] = '{"type":"message_start","message":' .. reference
    bodies[#bodies + 1] = '{"type":"message_end","message":' .. reference
    redis.call('HSET', run, 'r:' .. flushed, '')
    flushed = flushed + 1
    message = redis.call('HGET', run, 'r:' .. flushed)
  end
  redis.call('HSET', run, 'fl', flushed)
end

-- What a RunState is read from that shows one call of the open turn alone, and one step where it is given.
local function part_of(run, call, step)
  local names = {'fixed', 'state', 'status', 'w', 'seq', 'abort', 'fl', 'up', 'open', 'wait', 'work', 'k:' .. call,
    'r:' .. call}
  if step then
    names[#names + 1] = 's:' .. step
  end
  local values = redis.call('HMGET', run, unpack(names))
  local fields = {}
  for i, name in ipairs(names) do
    if values[i] then
      fields[#fields + 1] = name
      fields[#fields + 1] = values[i]
    end
  end
  return {int(now_ms()), fields, {}, false}
end

local function all_of(list)
  return redis.call('LRANGE', list, 0, -1)
end

-- What is queued, where it has up to so many bytes; else false.
local function little_of(run, queued, bytes)
  return tonumber(redis.call('HGET', run, 'qb') or '0') <= tonumber(bytes) and all_of(queued)
end

-- What a RunState is read from. `messages`: where all of them are wanted. `queued`: false where it is not read.
local function state_of(run, queued, messages)
  return {int(now_ms()), redis.call('HGETALL', run), messages or {}, queued}
end
