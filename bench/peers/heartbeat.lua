-- wrk: one agent per connection thread, the same small heartbeat over and over.
wrk.method = "POST"
wrk.path = "/agents/6a0000000000000000000000/heartbeat"
wrk.body = '{"status":"online","metrics":{"cpu":45,"memory":60,"activeConnections":3}}'
local tokens = {}
for line in io.lines(os.getenv("TOKENS")) do tokens[#tokens + 1] = line end
local at = 0
function request()
    at = at % #tokens + 1
    local id, token = tokens[at]:match("(%S+) (%S+)")
    return wrk.format("POST", "/agents/" .. id .. "/heartbeat", {
        ["Content-Type"] = "application/json", ["Authorization"] = "Bearer " .. token,
        ["Host"] = "gateway", ["User-Agent"] = "node", ["Accept"] = "*/*" }, wrk.body)
end
