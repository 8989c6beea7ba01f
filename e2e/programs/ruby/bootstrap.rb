# A handler and its runtime client, of the standard library alone.
require "etc"
require "json"
require "net/http"

def handler(event)
  user = Etc.getpwuid
  { greeting: "hello #{event["name"]}", user: user.name, home: user.dir, processors: Etc.nprocessors }
end

host, port = ENV.fetch("AWS_LAMBDA_RUNTIME_API").split(":")
http = Net::HTTP.start(host, port.to_i, read_timeout: nil)
loop do
  event = http.get("/2018-06-01/runtime/invocation/next")
  id = event["Lambda-Runtime-Aws-Request-Id"]
  http.post("/2018-06-01/runtime/invocation/#{id}/response", JSON.generate(handler(JSON.parse(event.body))))
end
