package main

// heapReserve is what a server has of the heap from the beginning and never touches. The runtime collects garbage when
// the heap has doubled, which beside a few megabytes in use is tens of times a second under load, and with the reserve
// a few times. It takes no memory by itself; the heap grows by as much more before garbage is collected.
const heapReserve = 16 << 20

// reserveHeap returns what the caller must keep. It is nothing where the environment says when garbage is collected.
func reserveHeap(getenv func(string) string) []byte {
	if getenv("GOGC") != "" || getenv("GOMEMLIMIT") != "" {
		return nil
	}
	return make([]byte, heapReserve)
}
