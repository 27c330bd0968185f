package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"regexp"
	"strings"

	sb "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/coder/websocket"
)

// The same port under TLS and as a WebSocket: as on Azure, but for where it is.
func transportCases() {
	define("over_tls", []string{"plain"}, overTLS)
	define("over_a_websocket", []string{"plain"}, overAWebSocket)
}

var endpoint = regexp.MustCompile(`sb://([^:;]+):(\d+)`)

func overTLS(b *bus) {
	authority := x509.NewCertPool()
	holds(authority.AppendCertsFromPEM(must(os.ReadFile(os.Getenv("MENTE_SERVICEBUS_CA")))), "no certificate")
	place := endpoint.FindStringSubmatch(os.Getenv("MENTE_SERVICEBUS"))
	thereAndBack(b, &sb.ClientOptions{
		CustomEndpoint: place[1] + ":" + place[2],
		TLSConfig:      &tls.Config{RootCAs: authority, MinVersion: tls.VersionTLS12},
	})
}

// As the SDK's own example has it, which names the protocol as AMQP's standard does.
func overAWebSocket(b *bus) {
	place := endpoint.FindStringSubmatch(os.Getenv("MENTE_SERVICEBUS"))
	thereAndBack(b, &sb.ClientOptions{
		NewWebSocketConn: func(ctx context.Context, args sb.NewWebSocketConnArgs) (net.Conn, error) {
			path := args.Host[strings.Index(args.Host, "/$servicebus"):]
			options := &websocket.DialOptions{Subprotocols: []string{"amqp"}}
			socket, _, err := websocket.Dial(ctx, "wss://"+place[1]+":"+place[2]+path, options)
			if err != nil {
				return nil, err
			}
			// What the SDK writes is bounded by frames.
			socket.SetReadLimit(-1)
			return websocket.NetConn(context.Background(), socket, websocket.MessageBinary), nil
		},
	})
}

// A client that is not told of an emulator: it goes over TLS.
func thereAndBack(b *bus, options *sb.ClientOptions) {
	options.RetryOptions.MaxRetries = -1
	connection := strings.Replace(os.Getenv("MENTE_SERVICEBUS"), "UseDevelopmentEmulator=true;", "", 1)
	// Its host is the name that a certificate must have, without a port.
	connection = endpoint.ReplaceAllString(connection, "sb://$1")
	client := must(sb.NewClientFromConnectionString(connection, options))
	defer client.Close(b)
	there := &bus{b.Context, client, b.name}
	body := strings.Repeat("x", 100_000)
	there.send("plain", text("m"), text(body))
	from := there.receiver("plain")
	for _, wanted := range []string{"m", body} {
		message := there.takeOne(from)
		holds(string(message.Body) == wanted, "another body, of ", len(message.Body))
		check(from.CompleteMessage(b, message, nil))
	}
	same(texts(there.peekAll(from)), []string{})
}
