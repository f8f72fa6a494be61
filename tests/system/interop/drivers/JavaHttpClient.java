import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.CountDownLatch;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

public class JavaHttpClient implements WebSocket.Listener {
  static final Pattern EVENT_ID = Pattern.compile("\"event_id\": ?\"(\\w+)\"");
  static final Pattern EVENT = Pattern.compile("\"event\": ?\"(\\w+)\"");
  static final Pattern ORDER = Pattern.compile("\"order\": ?\\{.*?\"id\": ?\"([\\w-]+)\"");
  static String position = "";

  final StringBuilder text = new StringBuilder();
  final CountDownLatch closed = new CountDownLatch(1);

  public static void main(String[] args) throws InterruptedException {
    while (true) {
      JavaHttpClient listener = new JavaHttpClient();
      URI url = URI.create("ws://localhost:8099/trade-updates-paper" + position);
      try {
        WebSocket socket =
            HttpClient.newHttpClient().newWebSocketBuilder().buildAsync(url, listener).join();
        socket.sendText("{\"action\":\"auth\",\"key\":\"any\",\"secret\":\"any\"}", true);
        listener.closed.await();
      } catch (java.util.concurrent.CompletionException error) {
        System.err.println(error.getMessage());
      }
      Thread.sleep(1000);
    }
  }

  @Override
  public CompletionStage<?> onText(WebSocket socket, CharSequence part, boolean last) {
    text.append(part);
    if (last) {
      Matcher event = EVENT.matcher(text), order = ORDER.matcher(text), id = EVENT_ID.matcher(text);
      if (event.find() && order.find() && id.find()) {
        System.out.println(event.group(1) + " " + order.group(1));
        position = "?since_id=" + id.group(1);
      }
      text.setLength(0);
    }
    socket.request(1);
    return null;
  }

  @Override
  public CompletionStage<?> onClose(WebSocket socket, int code, String reason) {
    closed.countDown();
    return null;
  }

  @Override
  public void onError(WebSocket socket, Throwable error) {
    closed.countDown();
  }
}
