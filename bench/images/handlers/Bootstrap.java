import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

/** A runtime client of the standard library alone. */
public class Bootstrap {
    static final String VERSION = "@VERSION@";

    public static void main(String[] args) throws Exception {
        String base = "http://" + System.getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/";
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        while (true) {
            var event = client.send(HttpRequest.newBuilder(URI.create(base + "next")).build(), BodyHandlers.ofString());
            String id = event.headers().firstValue("Lambda-Runtime-Aws-Request-Id").orElseThrow();
            String answer = "{\"greeting\":\"hello world\",\"runtime\":\"java " + System.getProperty("java.version") + "\"}";
            client.send(HttpRequest.newBuilder(URI.create(base + id + "/response"))
                .POST(HttpRequest.BodyPublishers.ofString(answer)).build(), BodyHandlers.discarding());
        }
    }
}
