import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** Allocates garbage, far more than the function has memory, and tells what the virtual machine takes its limits to be. */
public class Handler {
    static volatile byte[] garbage;

    static String handle() {
        int megabytes = 0;
        for (; megabytes < 4096; megabytes++) {
            garbage = new byte[1 << 20];
        }
        Runtime vm = Runtime.getRuntime();
        boolean limited = vm.maxMemory() <= 512L << 20;
        return "{\"allocatedMB\": " + megabytes + ", \"heapIsOfTheLimit\": " + limited + ", \"maxMemory\": " + vm.maxMemory()
            + ", \"processors\": " + vm.availableProcessors() + "}";
    }

    public static void main(String[] args) throws Exception {
        String api = "http://" + System.getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/";
        HttpClient client = HttpClient.newHttpClient();
        while (true) {
            HttpResponse<String> next = client.send(HttpRequest.newBuilder(URI.create(api + "next")).build(), HttpResponse.BodyHandlers.ofString());
            String id = next.headers().firstValue("Lambda-Runtime-Aws-Request-Id").get();
            HttpRequest.BodyPublisher answer = HttpRequest.BodyPublishers.ofString(handle());
            client.send(HttpRequest.newBuilder(URI.create(api + id + "/response")).POST(answer).build(), HttpResponse.BodyHandlers.discarding());
        }
    }
}
