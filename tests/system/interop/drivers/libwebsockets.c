#include <libwebsockets.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char text[65536], position[64];
static size_t length;
static int closed;

/* Copies the string behind `key` and returns where it ends; NULL if there is none. */
static const char *find(const char *from, const char *key, char *value) {
  const char *at = from ? strstr(from, key) : NULL;
  if (!at || sscanf(at + strlen(key), " \"%63[^\"]", value) != 1) return NULL;
  return at + strlen(key);
}

static void show(void) {
  char event[64], event_id[64], order[64];
  if (!strstr(text, "\"trade_updates\"")) return;
  const char *in_order = strstr(text, "\"order\":");
  if (!find(text, "\"event\":", event) || !find(in_order, "\"id\":", order)) return;
  printf("%s %s\n", event, order);
  fflush(stdout);
  if (find(text, "\"event_id\":", event_id))
    snprintf(position, sizeof position, "?since_id=%.50s", event_id);
}

static int called(struct lws *ws, enum lws_callback_reasons why, void *user, void *in, size_t size) {
  static const char login[] = "{\"action\":\"auth\",\"key\":\"any\",\"secret\":\"any\"}";
  unsigned char out[LWS_PRE + sizeof login];
  switch (why) {
  case LWS_CALLBACK_CLIENT_ESTABLISHED:
    lws_callback_on_writable(ws);
    break;
  case LWS_CALLBACK_CLIENT_WRITEABLE:
    memcpy(out + LWS_PRE, login, sizeof login);
    return lws_write(ws, out + LWS_PRE, sizeof login - 1, LWS_WRITE_TEXT) < 0 ? -1 : 0;
  case LWS_CALLBACK_CLIENT_RECEIVE:
    if (length + size >= sizeof text) return -1;
    memcpy(text + length, in, size);
    text[length += size] = 0;
    if (lws_is_final_fragment(ws) && !lws_remaining_packet_payload(ws)) {
      show();
      length = 0;
    }
    break;
  case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
  case LWS_CALLBACK_CLIENT_CLOSED:
    closed = 1;
    break;
  default:
    break;
  }
  return 0;
}

int main(void) {
  const struct lws_protocols protocols[] = {{.name = "updates", .callback = called}, {0}};
  const struct lws_context_creation_info info = {
      .port = CONTEXT_PORT_NO_LISTEN, .protocols = protocols, .gid = -1, .uid = -1};
  struct lws_context *context = lws_create_context(&info);
  for (;; sleep(1)) {
    char path[128];
    snprintf(path, sizeof path, "/trade-updates-paper%s", position);
    const struct lws_client_connect_info to = {.context = context, .address = "localhost",
        .port = 8099, .path = path, .host = "localhost:8099", .local_protocol_name = "updates"};
    length = closed = 0;
    if (!lws_client_connect_via_info(&to)) continue;
    while (!closed && lws_service(context, 0) >= 0) continue;
  }
}
