// What tests/bench/run asks of Gin: gin PORT STATIC REDIS-PORT VERSION
package main

import (
	"context"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/boj/redistore"
	"github.com/gin-gonic/gin"
	"github.com/gorilla/sessions"
	"golang.org/x/time/rate"
)

type user struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type line struct {
	Item  string  `json:"item"`
	Count int     `json:"count"`
	Price float64 `json:"price"`
	Gift  bool    `json:"gift"`
	Note  string  `json:"note"`
}

type order struct {
	Customer string `json:"customer" binding:"required"`
	Lines    []line `json:"lines" binding:"required"`
}

var served int

func servedBy(c *gin.Context) {
	c.Header("X-Served-By", "bench")
	c.Next()
}

func requireKey(c *gin.Context) {
	if c.GetHeader("X-Key") != "moon" {
		c.AbortWithStatus(401)
		return
	}
	c.Next()
}

var lock sync.Mutex

func count(c *gin.Context) {
	c.Next()
	lock.Lock()
	served++
	lock.Unlock()
}

// A token bucket for each address.
func limit(c *gin.Context) {
	lock.Lock()
	limiter, ok := limiters[c.ClientIP()]
	if !ok {
		limiter = rate.NewLimiter(rate.Every(time.Hour), 1)
		limiters[c.ClientIP()] = limiter
	}
	lock.Unlock()
	if !limiter.Allow() {
		c.AbortWithStatus(http.StatusTooManyRequests)
		return
	}
	c.Next()
}

var limiters = map[string]*rate.Limiter{}

func withSessions(r *gin.Engine, port string) {
	store, err := redistore.NewRediStore(64, "tcp", "127.0.0.1:"+port, "", []byte("a secret of thirty-two bytes ..."))
	if err != nil {
		panic(err)
	}
	open := func(c *gin.Context) *sessions.Session {
		session, err := store.Get(c.Request, "sid")
		if err != nil {
			panic(err)
		}
		return session
	}
	save := func(c *gin.Context, session *sessions.Session) {
		if err := session.Save(c.Request, c.Writer); err != nil {
			panic(err)
		}
	}
	r.GET("/login", func(c *gin.Context) {
		session := open(c)
		session.Values["user"] = "anna"
		save(c, session)
		c.String(200, "welcome")
	})
	r.GET("/session", func(c *gin.Context) {
		session := open(c)
		n, _ := session.Values["count"].(int)
		session.Values["count"] = n + 1
		save(c, session)
		c.String(200, session.Values["user"].(string))
	})
	r.GET("/count", func(c *gin.Context) {
		c.String(200, strconv.Itoa(open(c).Values["count"].(int)))
	})
}

func main() {
	port, static, redis, version := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.Use(gin.Recovery())
	r.SetTrustedProxies(nil)
	big := strings.Repeat("x", 65536)

	r.GET("/text", func(c *gin.Context) { c.String(200, "Hello, World!") })
	users := r.Group("/users", servedBy, requireKey, count)
	users.GET("/:id", func(c *gin.Context) { c.JSON(200, user{c.Param("id"), "Anna"}) })
	r.POST("/echo", func(c *gin.Context) {
		var value order
		if c.ShouldBindJSON(&value) != nil {
			c.AbortWithStatus(400)
			return
		}
		c.JSON(200, value)
	})
	r.GET("/big", func(c *gin.Context) { c.String(200, big) })
	r.GET("/refused", limit, func(c *gin.Context) { c.String(200, "passed") })
	r.GET("/version", func(c *gin.Context) { c.String(200, version) })
	r.Static("/static", static)
	if redis != "0" {
		withSessions(r, redis)
	}

	server := &http.Server{Addr: "127.0.0.1:" + port, Handler: r}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	go func() {
		if err := server.ListenAndServe(); err != http.ErrServerClosed {
			panic(err)
		}
	}()
	<-stop.Done()
	drain, over := context.WithTimeout(context.Background(), 5*time.Second)
	defer over()
	server.Shutdown(drain)
}
