// A gRPC server and client of grpc-go, with the library's defaults, for tests of the sidecar.
//
//	grpcgo server AGE GRACE    health service; prints its port; each line of stdin is its new status
//	grpcgo watch PORT SECONDS  watches health, prints each status, and each error by its code, watching again after one
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(age, grace time.Duration) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	fail(err)
	options := []grpc.ServerOption{}
	if age > 0 {
		parameters := keepalive.ServerParameters{MaxConnectionAge: age, MaxConnectionAgeGrace: grace}
		options = append(options, grpc.KeepaliveParams(parameters))
	}
	server := grpc.NewServer(options...)
	state := health.NewServer()
	healthpb.RegisterHealthServer(server, state)
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			value := healthpb.HealthCheckResponse_ServingStatus_value[lines.Text()]
			state.SetServingStatus("", healthpb.HealthCheckResponse_ServingStatus(value))
		}
		os.Exit(0)
	}()
	fail(server.Serve(listener))
}

func watch(port string, lasts time.Duration) {
	connection, err := grpc.NewClient("127.0.0.1:"+port, grpc.WithTransportCredentials(insecure.NewCredentials()))
	fail(err)
	ctx, cancel := context.WithTimeout(context.Background(), lasts)
	defer cancel()
	for ctx.Err() == nil {
		stream, err := healthpb.NewHealthClient(connection).Watch(ctx, &healthpb.HealthCheckRequest{})
		for err == nil {
			var answer *healthpb.HealthCheckResponse
			if answer, err = stream.Recv(); err == nil {
				fmt.Println(answer.Status)
			}
		}
		fmt.Println(status.Code(err), status.Convert(err).Message())
	}
}

func main() {
	number, err := strconv.ParseFloat(os.Args[3], 64)
	fail(err)
	seconds := time.Duration(number * float64(time.Second))
	switch os.Args[1] {
	case "server":
		age, err := strconv.ParseFloat(os.Args[2], 64)
		fail(err)
		serve(time.Duration(age*float64(time.Second)), seconds)
	case "watch":
		watch(os.Args[2], seconds)
	}
}
