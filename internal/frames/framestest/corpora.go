// Package framestest makes bodies such as sites send, for tests and benchmarks of compression.
package framestest

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// words are frequent ones, the most frequent first.
var words = strings.Fields(`the of and to in a is that for it as was with be by on not he his but at are this have from or had an
	they which one you were all her she there would their we him been has when who will no more if out so up said what its about than
	into them can only other time new some could these two may first then do any like my now over such our man me even most made after
	also did many off before must well back through years much where your way down should because long each just state those people
	too little good world make very year still see own work men day get here old between both life being under three never know same
	last another while us might great go come since against right came take used himself few house use during without again place
	around however home small found thought went say part once general high upon school every does got united left number course war
	until always away something fact water less public put thing almost hand enough far took head yet government system set better`)

// text is a sentence of n words, the frequent ones more often.
func text(r *rand.Rand, n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = words[int(float64(len(words))*r.Float64()*r.Float64())]
	}
	return strings.Join(all, " ")
}

// grow makes a body of size bytes of a beginning and as many items as it takes.
func grow(size int, begin string, item func(i int) string) []byte {
	b := []byte(begin)
	for i := 0; len(b) < size; i++ {
		b = append(b, item(i)...)
	}
	return b[:size]
}

// JSON is a page of an API's answer of size bytes, cut off there. Another seed makes another one.
func JSON(size int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // G404: the bodies are to be the same each time
	kinds := []string{"kitchen", "garden", "lighting", "bathroom", "office"}
	return grow(size, `{"page":1,"per_page":50,"products":[`, func(int) string {
		id, kind := 1000+r.IntN(9000), kinds[r.IntN(len(kinds))]
		return fmt.Sprintf(`{"id":%d,"sku":"LRD-%05d","name":"%s","category":{"slug":"%s","url":"https://shop.example/categories/%s"},`+
			`"price":{"amount":%d.%02d,"currency":"EUR","tax_included":true},"stock":{"available":%t,"quantity":%d,"warehouse":"berlin-%d"},`+
			`"images":[{"url":"https://cdn.example/img/%d/1.webp","width":1200,"height":800,"alt":null}],`+
			`"created_at":"2026-10-%02dT08:00:00Z","updated_at":"2026-11-%02dT%02d:%02d:00Z"},`,
			id, r.IntN(100000), text(r, 3), kind, kind, r.IntN(500), r.IntN(100), r.IntN(3) > 0, r.IntN(200), 1+r.IntN(3),
			r.IntN(100000), 1+r.IntN(28), 1+r.IntN(28), r.IntN(24), r.IntN(60))
	})
}

// HTML is a page of size bytes, cut off there.
func HTML(size int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // G404: the bodies are to be the same each time
	begin := `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>` + text(r, 5) + `</title>` +
		`<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="stylesheet" href="/assets/site.css"></head><body><main>`
	return grow(size, begin, func(int) string {
		id, price := 1000+r.IntN(9000), fmt.Sprintf("%d.%02d", r.IntN(500), r.IntN(100))
		return fmt.Sprintf(`
      <article class="product-card product-card--compact" data-id="%d" itemscope itemtype="https://schema.org/Product">
        <a class="product-card__link" href="/products/%d"><img class="product-card__image" src="/media/%d/thumb.webp" width="320" height="240" loading="lazy" alt=""></a>
        <h2 class="product-card__title" itemprop="name">%s</h2>
        <p class="product-card__text" itemprop="description">%s.</p>
        <div class="product-card__price" itemprop="offers"><span itemprop="price" content="%s">%s</span> <meta itemprop="priceCurrency" content="EUR"></div>
        <form method="post" action="/cart"><input type="hidden" name="product" value="%d"><button class="button" type="submit">Add to cart</button></form>
      </article>`, id, id, id, text(r, 3), text(r, 15), price, price, id)
	})
}

// Noise is size bytes that cannot be compressed.
func Noise(size int, seed uint64) []byte {
	r := rand.NewChaCha8([32]byte{0: byte(seed), 1: byte(seed >> 8)})
	b := make([]byte, size)
	_, _ = r.Read(b) // which does not fail
	return b
}
