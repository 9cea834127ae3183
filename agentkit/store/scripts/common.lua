-- What all scripts share. Every script works on the keys of one run, which share a cluster slot by their hash tag, or on
-- those of one thing that spans runs, which share another. No script works on both, and none on two of these, but for
-- append.lua where the store is one server.
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
--                         nothing; with token 0, until is when it is due, and it may be claimed before), call = index of its tool call ('' for a model step; not there before version 2)
--                c        events (one JSON a line) that the next claim appends
--                c:N      events that the first claim of step N appends
--                k:I      JSON of call I of the open turn
--                r:I      JSON of its tool result message; '' once that is in the list
--                qb       how many bytes P{ID}:q has; not there before anything was queued
--                fl       how many calls of the open turn have their message in the list
--                calls    how many calls the open turn has; not there, or an earlier turn's, where an older version wrote last
--                up       when a call last ended by itself (commit_call.lua), in ms
--                ob       P{ID}:o has entries
--                im       the mark of the line of a backup that it was restored from
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
--   P{ID}:i    string   the import that lays the run down to be restored; P{ID}:i:IMPORT and P{ID}:i:IMPORT:m, :e, :r, :q, :o
--                       are what becomes the keys above, all at once (restore_run.lua). They expire
--   P{ID}:h:N  string   "token worker": who holds step N, for people; expires
--              and two channels, which in a cluster are sharded: there PUBLISH, as lua.py defines it, is SPUBLISH
--   P{ID}:e    channel  "SEQ\n" and the same JSON, a line each; an empty message says that the run is gone
--   P{ID}      channel  an empty message: the run has paused or ended
--   Pdue       zset     run ids, scored by the time (ms) at which they are to be checked; permanent. After an
--                       outage also where the search for lost entries has come to (agentkit/runtime/forgotten.py)
--   P{due:NAME} zset    in a cluster: the same, of the runs of one of its parts (agentkit/store/redis_due.py); permanent
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
--   P{metrics} hash     JSON of a count's name and labels -> amount, of all processes; permanent (runtime/metrics.py)
--   P{metrics}:n:PROCESS string number of the last report that a process has added; expires
--   P{metrics}:l hash   process -> "until-ms json" of its levels, such as how many event streams it serves; expires
--   P{ready}QUEUE:s zset steps of the queue that are due (JSON of run id, number, kind), scored by class * 1e12 + place, the
--                       most urgent class 0; expires an hour after the last one was added, as do the next two
--   P{ready}QUEUE:f zset CLASS:OWNER, scored by the place after the owner's last step
--   P{ready}QUEUE:v hash class -> the place of the last step that was taken
--   P{quota:OWNER}:a zset runs of an owner that have not ended, scored by when they began (ms); permanent, gone when there
--                       is none
--   P{quota:OWNER}:d:DAY hash run id -> "least greatest" of its total costs on that day, in billionths of a dollar, and in
--                       the empty field what all have cost; expires
--   P{rates}NAME        what all workers together ask of models; expires a day after nobody did. Of each rate:
--   P{rates}RATE        hash    t:CALL -> tokens of a call that counts, sum -> all of them, w:STEP -> estimated tokens of a
--                       waiting step, v -> the place of the last step that was served
--   P{rates}RATE:c zset calls, scored by when they began (ms)
--   P{rates}RATE:s zset calls that go on, scored by when their leases end (ms)
--   P{rates}RATE:q zset waiting steps (JSON of run id, number, queue), scored by their places
--   P{rates}RATE:w zset those of them that were woken, scored by until when it is their turn (ms)
--   P{rates}RATE:f zset owners, scored by the place after their last step
--   P{rates}:paused zset models that nobody is to call, scored by until when (ms)
--   Pidem:KEY  string   "digest run-id", expires
--   Pthread:NAME  hash  a thread (agentkit/store/redis_threads.py), expires: run, its last run; before, the one before that
--                       or ''; m:MESSAGE -> "digest run-id" of a message that it has
--   Pprobe     string   written to see whether the server takes writes; expires
--   Pserved:Q   string   something of queue Q was executed lately; expires
--   Pprobing:Q  string   a probe of queue Q was sent lately; expires
--   Pworker:W  string   JSON of what worker W says of itself (agentkit/core/workers.py); expires
--   Pworkers   zset     workers, scored by the time (ms) until which they count as there; expires
--
-- The keys of an ended run, but for its outbox, have a TTL; those of a run that has not ended have none.
--
-- Where the installation has a codec, each JSON of a run's keys is an encrypted piece ("\2BASE64\2", agentkit/store/bodies.py).
-- An event begins with its brace, seq and timestamp, and has its references to messages, in plain; so has what is
-- published. The digests of Pidem:KEY and Pthread:NAME are such pieces too.

local now_read

-- The time at which the script is executed.
local function now_ms()
  if not now_read then
    local time = redis.call('TIME')
    now_read = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  end
  return now_read
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

-- How many values go to one command: Lua cannot unpack many thousands.
local MANY = 1000

-- The run's hash, as a script reads and changes it. A call of the server costs more than all else in a script: what will be
-- wanted is read in one (`names`), and all that is changed is written in one, by `save`, after which the hash may be read
-- by other means.
local function hash_of(run, names)
  local known, values = {}, redis.call('HMGET', run, unpack(names))
  for i, name in ipairs(names) do
    known[name] = values[i]
  end
  return {run = run, known = known, changed = {}}
end

-- A field's value; false where it is not there.
local function get(hash, name)
  local value = hash.known[name]
  if value == nil then
    value = redis.call('HGET', hash.run, name)
    hash.known[name] = value
  end
  return value
end

-- Gives a field a value; with false, removes it.
local function set(hash, name, value)
  hash.known[name] = value
  hash.changed[name] = value
end

-- Adds to a number, 0 where it is not there; returns the sum.
local function add(hash, name, amount)
  local sum = (get(hash, name) or 0) + amount
  set(hash, name, int(sum))
  return sum
end

local function save(hash)
  local pairs_of, gone = {}, {}
  for name, value in pairs(hash.changed) do
    if value then
      pairs_of[#pairs_of + 1] = name
      pairs_of[#pairs_of + 1] = value
    else
      gone[#gone + 1] = name
    end
  end
  for first = 1, #gone, MANY do
    redis.call('HDEL', hash.run, unpack(gone, first, math.min(first + MANY - 1, #gone)))
  end
  for first = 1, #pairs_of, MANY do
    redis.call('HSET', hash.run, unpack(pairs_of, first, math.min(first + MANY - 1, #pairs_of)))
  end
  hash.changed = {}
end

local function step_of(raw)
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

local function step_get(hash, step)
  return step_of(get(hash, 's:' .. step))
end

local function step_text(s)
  return table.concat({s.token, int(s.till), int(s.attempt), int(s.flush), s.from, s.claim, s.call}, ' ')
end

local function step_set(hash, step, s)
  set(hash, 's:' .. step, step_text(s))
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

-- A run's messages and its events, as a script appends to them; `max`: how many events are kept. `new`: the messages that
-- it has appended, by their index; `length`: how many there are, nil before it has appended any; `bodies`: the events
-- that it has, which `write_log` writes.
local function log_of(messages, stream, max)
  return {messages = messages, stream = stream, max = max, new = {}, bodies = {}}
end

-- Appends messages; returns the index of the first of them.
local function push(log, texts)
  for first = 1, #texts, MANY do
    log.length = redis.call('RPUSH', log.messages, unpack(texts, first, math.min(first + MANY - 1, #texts)))
  end
  for i, text in ipairs(texts) do
    log.new[log.length - #texts + i - 1] = text
  end
  return log.length and log.length - #texts
end

-- Puts messages in place of an event's references to them.
local function expand(log, data)
  if not string.find(data, '\1', 1, true) then
    return data
  end
  return (string.gsub(data, '\1(%d+) (%d+)\1', function(first, count)
    local last, texts = first + count - 1, {}
    for i = tonumber(first), last do
      texts[#texts + 1] = log.new[i]
    end
    if #texts < tonumber(count) then
      texts = redis.call('LRANGE', log.messages, first, int(last))
    end
    return table.concat(texts, ',')
  end))
end

-- Writes events, given without their seq and timestamp, after the seq `before`; returns how many connections are
-- subscribed to them.
local function write_events(log, before, bodies)
  if #bodies == 0 then
    return 0
  end
  local stamp = ',"timestamp":' .. int(now_ms()) .. ','
  local lines = {int(before + 1)}
  for i, body in ipairs(bodies) do
    local seq = int(before + i)
    local data = '{"seq":' .. seq .. stamp .. string.sub(body, 2)
    redis.call('XADD', log.stream, 'MAXLEN', log.max, seq .. '-0', 'd', data)
    lines[i + 1] = expand(log, data)
  end
  return redis.call(PUBLISH, log.stream, table.concat(lines, '\n'))
end

-- Appends events to a run, which `write_log` writes; returns the seq before the first of them.
local function append_events(hash, log, bodies)
  for _, body in ipairs(bodies) do
    log.bodies[#log.bodies + 1] = body
  end
  return add(hash, 'seq', #bodies) - #bodies
end

-- Writes what was appended to the log, all together.
local function write_log(hash, log)
  write_events(log, get(hash, 'seq') - #log.bodies, log.bodies)
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
local function committed(hash, commit, before, events)
  local version, last = add(hash, 'v', 1), int(before + events)
  local kept = {commit .. ' ' .. int(version) .. ' ' .. int(before) .. ' ' .. last .. '\n'}
  for act in string.gmatch(get(hash, 'acts') or '', '[^\n]+\n') do
    if #kept < 8 then
      kept[#kept + 1] = act
    end
  end
  set(hash, 'acts', table.concat(kept))
  return {version, int(before), last}
end

-- Makes messages of the results whose turn has come, in the order of their calls; adds their events to `bodies`.
local function flush_results(hash, log, bodies)
  local flushed, results = tonumber(get(hash, 'fl')), {}
  local message = get(hash, 'r:' .. flushed)
  while message and message ~= '' do
    results[#results + 1] = message
    set(hash, 'r:' .. flushed, '')
    flushed = flushed + 1
    message = get(hash, 'r:' .. flushed)
  end
  local first = push(log, results)
  for i = 1, #results do
    local reference = '\1' .. int(first + i - 1) .. ' 1\1}'
    bodies[#bodies + 1] = '{"type":"message_start","message":' .. reference
    bodies[#bodies + 1] = '{"type":"message_end","message":' .. reference
  end
  set(hash, 'fl', int(flushed))
end

-- What a RunState is read from that shows one call of the open turn alone, and one step where it is given.
local function part_of(run, call, step)
  local names = {'fixed', 'state', 'status', 'w', 'seq', 'abort', 'fl', 'up', 'open', 'wait', 'work', 'calls',
    'ob', 'k:' .. call, 'r:' .. call}
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

-- What the holder of a step reads, after its token, its attempt and whether that is the whole state. One of many tool calls
-- that are open together reads itself alone. `known`: how many messages the holder has already.
local function lent(run, messages, queued, step, s, version, bytes, known)
  if s.from == '0' then
    local rest = redis.call('LRANGE', messages, known, -1)
    return {s.token, int(s.attempt), '1', state_of(run, little_of(run, queued, bytes), rest)}
  end
  local read = redis.call('HMGET', run, 'open', 'sv')
  if s.call == '' or read[1] == '1' or read[2] ~= version then
    return {s.token, int(s.attempt), '1', state_of(run, little_of(run, queued, bytes))}
  end
  return {s.token, int(s.attempt), '', part_of(run, s.call, step)}
end

-- Lends a step that nobody holds, and appends what its claim brings. Returns the run's version.
local function lend(hash, log, step, s, lease_ms, claim)
  s.token = int(add(hash, 'tok', 1))
  s.till = now_ms() + tonumber(lease_ms)
  if s.claim ~= '=' then
    s.attempt = s.attempt + 1
  end
  s.flush = 0
  s.claim = claim
  step_set(hash, step, s)
  local bodies = {}
  for _, name in ipairs({'c', 'c:' .. step}) do
    local lines = get(hash, name)
    if lines then
      add_lines(bodies, lines)
      set(hash, name, false)
    end
  end
  append_events(hash, log, bodies)
  if get(hash, 'status') == 'queued' then
    set(hash, 'status', 'running')
    add(hash, 'w', 1)
  end
  return add(hash, 'v', 1)
end
