# A runtime client of the standard library alone.
require "json"
require "net/http"

host, port = ENV.fetch("AWS_LAMBDA_RUNTIME_API").split(":")
http = Net::HTTP.start(host, port.to_i, read_timeout: nil)
loop do
  event = http.get("/2018-06-01/runtime/invocation/next")
  id = event["Lambda-Runtime-Aws-Request-Id"]
  name = JSON.parse(event.body)["name"] || "world"
  http.post("/2018-06-01/runtime/invocation/#{id}/response", JSON.generate({ greeting: "hello #{name}", runtime: "ruby #{RUBY_VERSION}" }))
end
