<?php
// A runtime client of the standard library alone.
$base = 'http://' . getenv('AWS_LAMBDA_RUNTIME_API') . '/2018-06-01/runtime/invocation/';
ini_set('default_socket_timeout', '-1');
while (true) {
    $event = json_decode(file_get_contents($base . 'next'), true);
    foreach ($http_response_header as $line) {
        if (stripos($line, 'Lambda-Runtime-Aws-Request-Id:') === 0) {
            $id = trim(substr($line, 30));
        }
    }
    $answer = json_encode(['greeting' => 'hello ' . ($event['name'] ?? 'world'), 'runtime' => 'php ' . PHP_VERSION]);
    file_get_contents("$base$id/response", false, stream_context_create(['http' => ['method' => 'POST', 'content' => $answer]]));
}
