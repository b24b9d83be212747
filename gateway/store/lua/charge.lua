-- with lib_lines
-- Charges API keys for tokens that a model has made for them. KEYS[1]: the model's lines.
-- ARGV: class, API key, tokens over the key's weight, ...
local at = 1
on_lines(KEYS[1], function()
  while at < #ARGV do
    charge(KEYS[1] .. ':' .. ARGV[at], ARGV[at + 1], ARGV[at + 2])
    at = at + 3
  end
end)
return 1
