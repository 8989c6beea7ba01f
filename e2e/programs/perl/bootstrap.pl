# A handler and its runtime client, of the modules that come with Perl.
use strict;
use warnings;
use HTTP::Tiny;
use JSON::PP;

sub handler {
    my ($event) = @_;
    return { greeting => "hello $event->{name}", user => scalar getpwuid($<), group => scalar getgrgid($( + 0) };
}

my $api  = "http://$ENV{AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation";
my $http = HTTP::Tiny->new(timeout => 1_000_000);
while (1) {
    my $event = $http->get("$api/next");
    die $event->{content} unless $event->{success};
    my $id = $event->{headers}{'lambda-runtime-aws-request-id'};
    $http->post("$api/$id/response", { content => encode_json(handler(decode_json($event->{content}))) });
}
