package bench;

import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.CompletableFuture;

/** ClickHouse over HTTP. */
final class Store {
  private static final String RAW =
      "INSERT INTO turn_metrics (event_id, ts, session, player, locale, exposures, turn_ms,"
          + " model_ms, bundle_tokens, output_tokens, retries, fallbacks, tool_calls, acts,"
          + " choices, time_ticks, _topic, _partition, _offset) FORMAT RowBinary";
  private static final String WINDOWS = "INSERT INTO turn_windows FORMAT RowBinary";

  private final HttpClient client =
      HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

  /** The raw rows and then the sums; done when both are acknowledged. */
  CompletableFuture<Void> insert(byte[] rows, byte[] windows) {
    return send(RAW, rows).thenCompose(done -> send(WINDOWS, windows));
  }

  private CompletableFuture<Void> send(String query, byte[] body) {
    String parameters =
        "?database=" + encoded(Peer.told("DATABASE")) + "&query=" + encoded(query);
    HttpRequest request =
        HttpRequest.newBuilder(URI.create(Peer.told("URL") + "/" + parameters))
            .header("X-ClickHouse-User", Peer.told("USER"))
            .header("X-ClickHouse-Key", Peer.told("PASSWORD"))
            .POST(HttpRequest.BodyPublishers.ofByteArray(body))
            .build();
    return client
        .sendAsync(request, HttpResponse.BodyHandlers.ofString())
        .thenAccept(
            answer -> {
              if (answer.statusCode() != 200) {
                throw new IllegalStateException(answer.body());
              }
            });
  }

  private static String encoded(String text) {
    return URLEncoder.encode(text, StandardCharsets.UTF_8);
  }
}
