// A server by the design of controller-runtime's certwatcher: a watch on each of both files, a read
// at each event and every 10 s, and the pair of tls.X509KeyPair served as soon as it is read.
//
// Arguments: PORT CHAIN KEY
package main

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

func main() {
	port, chain, key := os.Args[1], os.Args[2], os.Args[3]
	var served atomic.Pointer[tls.Certificate]
	read := func() error {
		pair, err := tls.LoadX509KeyPair(chain, key)
		if err == nil {
			served.Store(&pair)
		}
		return err
	}
	if err := read(); err != nil {
		log.Fatal(err)
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		log.Fatal(err)
	}
	for _, path := range []string{chain, key} {
		if err := watcher.Add(path); err != nil {
			log.Fatal(err)
		}
	}
	go func() {
		tick := time.Tick(10 * time.Second)
		for {
			select {
			case event := <-watcher.Events:
				switch {
				case event.Has(fsnotify.Write), event.Has(fsnotify.Create):
				case event.Has(fsnotify.Chmod), event.Has(fsnotify.Remove):
					// The watch was on the file that is gone.
					if err := watcher.Add(event.Name); err != nil {
						log.Print(err)
					}
				default:
					continue
				}
			case err := <-watcher.Errors:
				log.Print(err)
				continue
			case <-tick:
			}
			if err := read(); err != nil {
				log.Print(err)
			}
		}
	}()
	server := http.Server{
		Addr: "127.0.0.1:" + port,
		TLSConfig: &tls.Config{
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return served.Load(), nil },
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") }),
	}
	log.Fatal(server.ListenAndServeTLS("", ""))
}
