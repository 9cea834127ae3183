-- Read what events refer to. KEYS: messages. ARGV: how many bytes ('' for any number), then the first message and the
-- count of each reference. Returns the messages of each, joined by commas: those of the first references, up to so many
-- bytes, though always of one. There are none where the run is gone.
local size, found, had = tonumber(ARGV[1]), {}, 0
for i = 2, #ARGV, 2 do
  local first, count = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  local text = table.concat(redis.call('LRANGE', KEYS[1], int(first), int(first + count - 1)), ',')
  had = had + #text
  if size and had > size and #found > 0 then
    break
  end
  found[#found + 1] = text
end
return found
