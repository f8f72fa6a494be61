use Mojo::Base -strict, -signatures;
use Mojo::IOLoop;
use Mojo::UserAgent;

$| = 1;
my $ua = Mojo::UserAgent->new;
my $position = "";

sub connect {
  $ua->websocket("ws://localhost:8099/trade-updates-paper$position" => sub ($ua, $tx) {
    return Mojo::IOLoop->timer(1 => \&connect) unless $tx->is_websocket;
    $tx->on(finish => sub { Mojo::IOLoop->timer(1 => \&connect) });
    $tx->on(json => sub ($tx, $message) {
      return unless ref $message eq "HASH" && $message->{stream} eq "trade_updates";
      my $update = $message->{data};
      say "$update->{event} $update->{order}{id}";
      $position = "?since_id=$update->{event_id}";
    });
    $tx->send('{"action":"auth","key":"any","secret":"any"}');
  });
}

&connect;
Mojo::IOLoop->start;
